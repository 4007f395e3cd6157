// ioredis against kvs-server: check.js HOST PORT [PASSWORD]. Ends with an error at the first thing that is not as it should be.
"use strict";

const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { version } = require("ioredis/package.json");

const [host, port, password] = process.argv.slice(2);
const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

async function commands(redis) {
  assert.equal(await redis.flushdb(), "OK");
  assert.equal(await redis.ping(), "PONG");
  assert.equal(await redis.echo("hello\r\n"), "hello\r\n");
  assert.equal(await redis.get("nobody"), null);
  assert.equal(await redis.set(all, all), "OK");
  assert.deepEqual(await redis.getBuffer(all), all);
  assert.equal(await redis.strlen(all), 256);
  assert.equal(await redis.set("k", "1", "NX"), "OK");
  assert.equal(await redis.set("k", "2", "NX"), null);
  assert.equal(await redis.set("k", "3", "XX"), "OK");
  assert.equal(await redis.set("k", "4", "GET"), "3");
  assert.equal(await redis.getdel("k"), "4");
  assert.equal(await redis.getdel("k"), null);
  assert.equal(await redis.mset({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await redis.mget("a", "nobody", "b"), ["1", null, "2"]);
  assert.equal(await redis.exists("a", "b", "nobody"), 2);
  assert.equal(await redis.del("a", "b", "nobody"), 2);
  assert.equal(await redis.dbsize(), 1);
  const large = Buffer.alloc(1_000_000, "x");
  await redis.set("large", large);
  assert.deepEqual(await redis.getBuffer("large"), large);
  await assert.rejects(redis.set("larger", Buffer.alloc(1_048_577)), /larger than the limit/);
  await assert.rejects(redis.incr("n"), /unknown command 'incr'/i);
  await assert.rejects(redis.set("k", "v", "EX", 10), /syntax error/);
  await assert.rejects(redis.select(1), /DB index is out of range/);
  assert.match(await redis.info("server"), /engine:kvs/);
  assert.deepEqual(await redis.config("GET", "appendonly"), ["appendonly", "yes"]);
  assert.equal(await redis.client("SETNAME", "checker"), "OK");
  assert.equal(await redis.client("GETNAME"), "checker");
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let number = 0; number < 1000; number += 1) {
    pipeline.set("n", number).get("n");
  }
  const answers = await pipeline.exec();
  answers.forEach(([error, answer], place) => {
    assert.equal(error, null);
    assert.equal(answer, place % 2 === 0 ? "OK" : String((place - 1) / 2));
  });
  // Without waiting: commands that are sent together stay in their order.
  const found = await Promise.all([redis.set("p", "1"), redis.get("p"), redis.del("p"), redis.get("p")]);
  assert.deepEqual(found, ["OK", "1", 1, null]);
  await assert.rejects(redis.multi().set("n", 1).exec());
}

async function scans(redis) {
  const keys = Array.from({ length: 1000 }, (_, number) => `user:${number}`);
  await redis.mset(...keys.flatMap((key) => [key, "v"]));
  const found = [];
  for await (const page of redis.scanStream({ match: "user:*", count: 50 })) {
    found.push(...page);
  }
  assert.equal(found.length, keys.length);
  assert.deepEqual(found.sort(), keys.sort());
}

async function main() {
  const secret = password ? { password } : {};
  const redis = new Redis({ host, port: Number(port), ...secret, maxRetriesPerRequest: 0, retryStrategy: null });
  redis.on("error", (error) => assert.fail(error));
  for (const part of [commands, pipelines, scans]) {
    await part(redis);
  }
  await redis.flushdb();
  assert.equal(await redis.quit(), "OK");
  console.log(`ioredis ${version}: all well`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
