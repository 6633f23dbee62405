// Reports the time every second. It goes on when the server is gone: whoever started them has to end it, too.

process.on("SIGTERM", () => {
  console.log("helper stopped");
  process.exit(0);
});

function report() {
  if (process.connected) process.send(new Date().toISOString());
}

report();
setInterval(report, 1000);
