// @ts-types="./std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { defineServices } from "./definition.ts";
import { parseDotenv } from "./dotenv.ts";
import { explainEnvironment } from "./explain.ts";
import { maskValue } from "./secrets.ts";

Deno.test("each variable is shown with where its value comes from and what it hides, without a secret", () => {
  const [service] = defineServices({
    web: {
      command: ["x"],
      portEnv: "WEB_PORT",
      port: 8003,
      environment: { LOG: "${LEVEL}-${NOWHERE}-${PORT}", DB_URL: "postgres://u:${PW}@h/d" },
      envRequired: ["LOG", "BOT_TOKEN"],
    },
  });
  const text = explainEnvironment({
    service: service!,
    process: { HOME: "/home/nc", LOG: "process", LEVEL: "info", PYTHONPATH: "/own", API_KEY: "k1" },
    dotenv: parseDotenv("LEVEL=debug\nAPI_KEY=k2\nLOG=file\nPW=s3cret\nBARE", {}),
    envFile: ".env",
    final: {
      HOME: "/home/nc",
      LOG: "debug--8003",
      LEVEL: "debug",
      API_KEY: "k2",
      PW: "s3cret",
      PYTHONPATH: "/infra:/own",
      WEB_PORT: "8003",
      DB_URL: "postgres://u:s3cret@h/d",
    },
  });
  assertEquals(
    text,
    `API_KEY=***  (.env:2)
    hides ***  (process)
DB_URL=postgres://u:***@h/d  (services file)
LEVEL=debug  (.env:1)
    hides info  (process)
LOG=debug--8003  (services file)
    hides file  (.env)
    hides process  (process)
    \${NOWHERE} is not set (expands to an empty string)
PW=s3cret  (.env:4)
PYTHONPATH=/infra:/own  (orchestrator)
    hides /own  (process)
WEB_PORT=8003  (orchestrator)
HOME=/home/nc  (process)
BOT_TOKEN is required by "web" and not set`,
  );
});

Deno.test("a value of several lines or with control characters is shown as one harmless line", () => {
  const [service] = defineServices({ a: { command: "x" } });
  const final = { A: "x\ny\x1b[31m\x9b" };
  const text = explainEnvironment({
    service: service!,
    process: final,
    dotenv: null,
    envFile: ".env",
    final,
  });
  assertEquals(text, String.raw`A="x\ny\u001b[31m\u{9b}"  (process)`);
});

for (
  const name of [
    ..."BOT_TOKEN TOKEN token AccessToken SECRET CLIENT_SECRET SECRETS SECRET_KEY_BASE DB_PASSWORD PASSWORD PGPASSWORD"
      .split(
        " ",
      ),
    ..."MYSQL_PWD DB_PWD DB_PASS PASS PASSWD SMTP_PASSWD PASSPHRASE API_KEY APIKEY apiKey KEY SSH_KEY DSN"
      .split(" "),
    ..."SENTRY_DSN AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY GOOGLE_CREDENTIALS PRIVATE_KEY BASIC_AUTH JWT TOKEN_2"
      .split(
        " ",
      ),
  ]
) {
  Deno.test(`the value of ${name} is masked`, () => assertEquals(maskValue(name, "hunter2"), "***"));
}

for (
  const name of "PATH HOME PWD OLDPWD KEYBOARD COMPASS_DIR LOG_LEVEL DATABASE_SERVICE_PORT AUTHOR MONKEY PORT"
    .split(" ")
) {
  Deno.test(`the value of ${name} is shown`, () =>
    assertEquals(maskValue(name, "/some/value"), "/some/value"));
}

for (
  const [value, shown] of [
    ["", ""],
    ["postgres://nc:pw@db:5432/nc", "postgres://nc:***@db:5432/nc"],
    ["redis://:pw@host", "redis://:***@host"],
    ["https://pw@github.com/x", "https://***@github.com/x"],
    ["postgres://nc:p%40w%3A@db/nc", "postgres://nc:***@db/nc"],
    ["postgres://nc:p@w@db/nc", "postgres://nc:***@db/nc"],
    ["postgresql+asyncpg://nc:p/w#?x@db/nc", "postgresql+asyncpg://nc:***@db/nc"],
    ["mongodb://u:pw@h1,h2/db", "mongodb://u:***@h1,h2/db"],
    ["redis://:pw1@h1,redis://:pw2@h2 amqp://u:pw3@h3", "redis://:***@h1,redis://:***@h2 amqp://u:***@h3"],
    ["x?to=postgres%3A%2F%2Fu%3Apw%40h", "x?to=postgres%3A%2F%2Fu%3A***%40h"],
    ["http://h:8080/@user?a=b@c", "http://h:8080/@user?a=b@c"],
    ["https://h/@user", "https://h/@user"],
    ["https://h/?user=a&password=pw&x=1", "https://h/?user=a&password=***&x=1"],
    ["https://h/?access_token=pw#x", "https://h/?access_token=***"],
    ["https://h/?pwd=pw;api%5Fkey=pw2", "https://h/?pwd=***;api%5Fkey=***"],
    ["host=h user=u password=pw dbname=d", "host=h user=u password=*** dbname=d"],
    ["Server=h;Database=d;Pwd='p;w';", "Server=h;Database=d;Pwd=***;"],
    ['{"user": "u", "password": "p\\"w", "n": 1}', '{"user": "u", "password": ***, "n": 1}'],
    ["--user u --password pw --verbose", "--user u --password *** --verbose"],
    ["python main.py --token=pw", "python main.py --token=***"],
    ["Authorization: Bearer pw", "Authorization: Bearer ***"],
    ["-----BEGIN RSA PRIVATE KEY-----\nx", "***"],
    ["a eyJhbGciOi.eyJzdWIi.c2ln b", "a *** b"],
    ["mailto: a@b.c", "mailto: a@b.c"],
    ["/usr/bin:/bin", "/usr/bin:/bin"],
    ["C:\\x", "C:\\x"],
  ]
) {
  Deno.test(`${JSON.stringify(value)} is shown as ${JSON.stringify(shown)}`, () => {
    assertEquals(maskValue("VALUE", value!), shown);
  });
}

Deno.test("values of 128 KiB are masked in no time, whatever they hold", () => {
  const startedAt = performance.now();
  for (
    const piece of [
      "a",
      "a:",
      "://",
      "a://",
      "a:b@",
      "a=",
      "'",
      '"a":',
      "--a ",
      "bearer ",
      "eyJ.",
      "%3a%2f%2f",
      "token=",
      "@",
      " ",
    ]
  ) {
    maskValue("VALUE", piece.repeat(Math.ceil(131_072 / piece.length)));
  }
  assert(performance.now() - startedAt < 10_000, `${performance.now() - startedAt} ms`);
});
