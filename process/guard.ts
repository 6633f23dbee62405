/**
 * The shell that stops every child when the orchestrator itself is killed.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import type { Clock } from "../config/clock.ts";

// If the orchestrator is killed, the pipe closes and this shell stops what is left: the groups that were written to it
// and, on Linux, whatever else carries this run's mark but was not written yet. Each gets one SIGTERM: to many programs
// a second one means "at once". It also gives a terminal back.
const GUARD_SCRIPT = String.raw`
trap '' HUP INT TERM QUIT
while read -r verb id; do
  case $verb in
    add) eval "group_$id=$id" ;; # a variable each: one list of hundreds would take seconds to keep
    drop) unset "group_$id" ;;
    bye) exit 0 ;;
  esac
done
groups=" $(set | sed -n 's/^group_\([0-9]*\)=.*/\1/p' | tr '\n' ' ')"
if [ -t 1 ]; then stty icrnl ixon icanon iexten echo isig <&1; printf '\033[r\033[999;1H\033[?25h\033[?2004l\n'; fi 2>/dev/null
marked() { [ -r /proc/self/environ ] && grep -lszxF "ORCHESTRATOR_RUN=$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'; }
send() { for id in $groups; do kill "-$1" "-$id"; done 2>/dev/null; for id in $strays; do grouped "$id" || kill "-$1" "$id"; done 2>/dev/null; }
grouped() {
  read -r stat <"/proc/$1/stat" || return 0
  set -- ${"$"}{stat##*) }
  case $groups in *" $3 "*) return 0 ;; esac
  return 1
}
left() {
  for id in $groups; do kill -0 "-$id" 2>/dev/null && return 0; done
  for id in $strays; do kill -0 "$id" 2>/dev/null && return 0; done
  return 1
}
strays=$(marked "$1")
send TERM
tries=0
while left && [ "$tries" -lt "$2" ]; do sleep 0.1 2>/dev/null || sleep 1; tries=$((tries + 1)); done
strays=$(marked "$1")
send KILL
`;

/** The shell that stops everything when the orchestrator no longer can. */
export class Guard {
  readonly #groups = new Set<number>();
  #shell: Deno.ChildProcess | null = null;
  #writer: WritableStreamDefaultWriter<Uint8Array> | null = null;
  #unsent = "";

  /**
   * @param run the mark that this run's children carry in `ORCHESTRATOR_RUN`
   * @param options the time from SIGTERM to SIGKILL; whether a panel is drawn on standard output, which is given back
   */
  constructor(
    readonly run: string,
    readonly options: { graceMs: number; terminal: boolean; clock: Clock },
  ) {}

  /** Takes charge of a group. */
  add(group: number): void {
    this.#groups.add(group);
    this.#send(`add ${group}`);
  }

  /** Lets go of a group that is empty. */
  drop(group: number): void {
    this.#groups.delete(group);
    this.#send(`drop ${group}`);
  }

  /** Starts the shell, so that it is there before the first child. */
  open(): void {
    if (this.#shell !== null || Deno.build.os === "windows") return;
    const { graceMs, terminal, clock } = this.options;
    const shell = new Deno.Command("/bin/sh", {
      args: ["-c", GUARD_SCRIPT, "orchestrator-guard", this.run, String(Math.ceil(graceMs / 100))],
      cwd: "/",
      // Nothing that could pass for a group there: the shell finds them among its variables.
      clearEnv: true,
      env: Object.fromEntries(
        Object.entries(Deno.env.toObject()).filter((entry) => !entry.join().includes("group_")),
      ),
      detached: true,
      stdin: "piped",
      stdout: terminal ? "inherit" : "null",
      stderr: "null",
    }).spawn();
    this.#shell = shell;
    const openedAt = clock.now();
    shell.status.then(() => {
      if (this.#shell !== shell) return;
      // Someone killed the guard: another takes over, unless they die as fast as they come.
      this.#shell = null;
      this.#writer = null;
      if (clock.now() - openedAt < 1_000) return;
      this.open();
      for (const group of this.#groups) this.#send(`add ${group}`);
    });
  }

  /** Ends the shell; nothing is stopped by it. */
  async close(): Promise<void> {
    const shell = this.#shell;
    if (shell === null) return;
    const writer = this.#writer ?? shell.stdin.getWriter();
    this.#shell = null;
    this.#writer = null;
    await writer.write(encoder.encode("bye\n")).catch(() => {}); // it may be gone already
    await writer.close().catch(() => {});
    await shell.status;
  }

  /** Writes to the shell, together with all else of this turn: until then it knows the group by the run's mark. */
  #send(line: string): void {
    if (this.#unsent === "") queueMicrotask(() => this.#flush());
    this.#unsent += `${line}\n`;
  }

  #flush(): void {
    const text = this.#unsent;
    this.#unsent = "";
    if (this.#shell === null) return;
    this.#writer ??= this.#shell.stdin.getWriter();
    this.#writer.write(encoder.encode(text)).catch(() => {}); // a dead guard is replaced, see open
  }
}
