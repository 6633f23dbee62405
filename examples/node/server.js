// A service in Node: tells the time over HTTP, as its helper process last reported it.
//
// `npm start` puts npm and a shell above this process, and the helper stands below it. Neither npm nor the shell
// passes SIGTERM on as far as here, and this process leaves its helper alone: only a signal to the whole group
// ends them all.

import { fork } from "node:child_process";
import { createServer } from "node:http";

const port = Number(process.env.CLOCK_SERVICE_PORT ?? 8010);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("CLOCK_SERVICE_PORT is not a whole number from 1 to 65535.");
  process.exit(1);
}
let latest;

const server = createServer((request, response) => {
  const known = request.url === "/" || request.url === "/health";
  response.writeHead(known ? 200 : 404, { "content-type": "text/plain" });
  response.end(known ? `${latest}\n` : "not found\n");
});

const helper = fork(new URL("helper.js", import.meta.url));
helper.on("message", (time) => latest = time);
helper.once("message", () => server.listen(port, "127.0.0.1"));

server.on("listening", () => console.log(`clock ${process.pid} on port ${port}, helper ${helper.pid}`));
server.on("error", ({ code }) => {
  console.error(`Cannot listen on port ${port} (CLOCK_SERVICE_PORT): ${code}.`);
  helper.kill();
  process.exit(1);
});

process.on("SIGTERM", () => {
  console.log("clock stopped");
  process.exit(0);
});
