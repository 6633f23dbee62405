// @ts-types="../std.d.ts"
import { assertEquals } from "@std/assert";
import { redisMissing, RedisServer } from "../testdata/jobs/redis_server.ts";
import { storeContract } from "./store_contract.ts";
import { RedisStorage } from "./store_redis.ts";

// One server for the contract: each test has a prefix of its own.
let shared: Promise<RedisServer> | undefined;
let prefixes = 0;

if (redisMissing === undefined) {
  Deno.test.beforeAll(() => void (shared = RedisServer.start()));
  Deno.test.afterAll(async () => await (await shared)?.[Symbol.asyncDispose]());
}

storeContract("redis", async () => {
  const server = await shared;
  const url = `${server?.url}/0?prefix=test-${++prefixes}`;
  const storage = await RedisStorage.open(url);
  return {
    storage,
    reopen: async () => {
      await storage[Symbol.asyncDispose]();
      return await RedisStorage.open(url);
    },
    second: () => RedisStorage.open(url),
  };
}, redisMissing);
