/**
 * How this process was started, and how it is replaced by another program, as `execv` does.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import { systemReason, UserError } from "../config/errors.ts";
import type { Launch } from "../config/launch.ts";
import { ownArguments, ownDescriptors } from "./procfs.ts";

const LIBC: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "/usr/lib/libSystem.B.dylib",
};

/** Whether this process can be replaced by another program. */
export const canBeReplaced = LIBC[Deno.build.os] !== undefined;

/**
 * Replaces this process by a program, as `os.execv` does, with the present environment and working folder.
 *
 * Signals that the runtime ignores are handed over as it found them, and descriptors other than the standard three
 * close at the exchange.
 *
 * @throws {UserError} when the system refuses
 */
export function replaceProcess(program: string, args: readonly string[]): never {
  const symbols = {
    execv: { parameters: ["buffer", "buffer"], result: "i32" },
    signal: { parameters: ["i32", "pointer"], result: "pointer" },
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  } as const;
  const libc = Deno.dlopen(LIBC[Deno.build.os] ?? "", symbols).symbols;
  const SIGPIPE = 13;
  libc.signal(SIGPIPE, null); // the runtime ignores it, and what is ignored stays so across exec
  const F_SETFD = 2;
  const FD_CLOEXEC = 1;
  for (const descriptor of ownDescriptors()) {
    if (descriptor > 2) libc.fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  }
  const words = [program, ...args].map((word) => encoder.encode(`${word}\0`));
  const addresses = words.map((word) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(word)));
  libc.execv(encoder.encode(`${program}\0`), BigUint64Array.from([...addresses, 0n]));
  const count = words.length - 1; // asked for here, so that the addresses are good until now
  throw new UserError(
    `Cannot start ${program} with ${count} arguments: the system refused; check that it is a program.`,
  );
}

/** Replaces this process by a service. @throws {UserError} when the system refuses */
export function becomeService(launch: Launch): never {
  try {
    Deno.chdir(launch.cwd);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new UserError(`Cannot enter the working folder: ${systemReason(error)}.`);
  }
  for (const name of Object.keys(Deno.env.toObject())) {
    if (!Object.hasOwn(launch.environment, name)) Deno.env.delete(name);
  }
  for (const [name, value] of Object.entries(launch.environment)) Deno.env.set(name, value);
  replaceProcess(launch.program, launch.args);
}

/**
 * The program and the arguments that this process was started with, the runtime's own among them.
 *
 * @param own what takes the place of the arguments that are ours
 */
export function ownCommand(own: readonly string[] = Deno.args): { program: string; args: string[] } {
  const program = Deno.execPath().replace(/ \(deleted\)$/, ""); // it may have been replaced by a newer one
  const script = Deno.build.standalone ? [] : ["run", "-A", Deno.mainModule];
  if (Deno.build.os !== "linux") return { program, args: [...script, ...own] };
  const words = ownArguments();
  return { program, args: [...words.slice(0, words.length - Deno.args.length), ...own] };
}
