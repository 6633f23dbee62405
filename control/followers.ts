/**
 * Readers of `GET /events`: each gets the state of the run first, and then what happens.
 *
 * @module
 */

import { decoder, encoder } from "../config/bytes.ts";
import type { Event } from "../supervisor/model.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { LogFiles } from "./log_files.ts";
import type { Message } from "./protocol.ts";
import type { Follower } from "./server.ts";

/** All readers of one run. */
export class Followers {
  readonly #supervisor: Supervisor;
  readonly #version: string;
  readonly #logs: LogFiles | null;
  readonly #clients = new Set<Follower>();

  constructor(supervisor: Supervisor, version: string, logs: LogFiles | null) {
    this.#supervisor = supervisor;
    this.#version = version;
    this.#logs = logs;
  }

  /** A reader comes. @param recent how many of each service's last lines it wants */
  add(client: Follower, recent: number): void {
    const { at, stopping, services } = this.#supervisor.snapshot(recent);
    const positions = services.map(({ name }) => [name, this.#logs?.position(name) ?? null]);
    const logs = this.#logs === null ? null : {
      folder: this.#logs.folder,
      own: this.#logs.position("", true),
      services: Object.fromEntries(positions),
    };
    const { pid } = Deno;
    client.send(
      line({ kind: "hello", time: Date.now(), at, version: this.#version, pid, stopping, services, logs }),
    );
    this.#clients.add(client);
    client.ended.then(() => this.#clients.delete(client));
  }

  /** Something has happened. */
  event(event: Event): void {
    if (this.#clients.size === 0) return;
    if (event.kind === "output") {
      const { kind, time, service, stream, lines } = event;
      const log = this.#logs?.position(service);
      this.#send({ kind, time, service, stream, text: decoder.decode(lines), log });
    } else if (event.kind === "services") this.#send(event);
    else this.#send({ ...event, log: this.#logs?.position("", true) });
  }

  /** The run has ended. */
  exit(status: number, restarting: boolean, remaining: readonly string[]): void {
    this.#send({ kind: "exit", time: Date.now(), status, restarting, remaining });
  }

  #send(message: Message): void {
    if (this.#clients.size === 0) return;
    const bytes = line(message);
    for (const client of this.#clients) client.send(bytes);
  }
}

function line(message: Message): Uint8Array {
  return encoder.encode(`${JSON.stringify(message)}\n`);
}
