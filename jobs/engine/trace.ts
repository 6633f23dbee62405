/**
 * Spans through the runtime's own OpenTelemetry: nothing to install, nothing happens unless the runtime exports (with
 * `OTEL_DENO=true`). Requests are traced by the runtime itself; here are the steps of jobs.
 *
 * @module
 */
import type { Trace } from "../model/job.ts";

/** A step that is being measured. */
export interface Span {
  /** Ends it; `error` marks it as failed. */
  end(error?: string): void;
  /** The headers with which others go on from here. */
  trace: Trace;
}

// The parts of OpenTelemetry's interfaces that are used; the runtime types its providers loosely.
interface RuntimeSpan {
  spanContext(): { traceId: string; spanId: string; traceFlags: number };
  setStatus(status: { code: number; message: string }): unknown;
  end(): void;
}
interface RuntimeContext {
  setValue(key: symbol, value: unknown): RuntimeContext;
}
interface RuntimeTracer {
  startSpan(
    name: string,
    options: { attributes: Record<string, string | number> },
    context: RuntimeContext,
  ): RuntimeSpan;
}

// The key under which OpenTelemetry's own library keeps the current span.
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");
const STATUS_ERROR = 2;

const tracer: RuntimeTracer | undefined = isExporting()
  ? Deno.telemetry.tracerProvider.getTracer("jobs", "1")
  : undefined;

function isExporting(): boolean {
  return Deno.permissions.querySync({ name: "env", variable: "OTEL_DENO" }).state === "granted" &&
    /^(true|1)$/.test(Deno.env.get("OTEL_DENO") ?? "");
}

/** Begins a span below what a job's trace headers name; undefined when nothing is exported. */
export function beginSpan(
  name: string,
  attributes: Record<string, string | number>,
  parent: Trace | undefined,
): Span | undefined {
  if (tracer === undefined) return undefined;
  let context: RuntimeContext = Deno.telemetry.contextManager.active();
  const [, traceId, spanId, flags = ""] = parent?.traceparent?.split("-") ?? [];
  if (spanId !== undefined) {
    const spanContext = { traceId, spanId, traceFlags: parseInt(flags, 16), isRemote: true };
    context = context.setValue(SPAN_KEY, { spanContext: () => spanContext });
  }
  const span = tracer.startSpan(name, { attributes }, context);
  const made = span.spanContext();
  const traceFlags = made.traceFlags.toString(16).padStart(2, "0");
  return {
    trace: {
      traceparent: `00-${made.traceId}-${made.spanId}-${traceFlags}`,
      ...(parent?.tracestate === undefined ? {} : { tracestate: parent.tracestate }),
    },
    end(error) {
      if (error !== undefined) span.setStatus({ code: STATUS_ERROR, message: error });
      span.end();
    },
  };
}
