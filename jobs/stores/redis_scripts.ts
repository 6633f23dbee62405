/**
 * The Lua scripts of the Redis storage, each one atomic step on the keys that `redis.ts` lists; and the texts that are
 * their arguments and answers.
 *
 * @module
 */
import { hash } from "node:crypto";
import { hasEnded } from "../model/job.ts";
import type { Demands, HeldTask, JobWrite, Task } from "../model/store.ts";

/** A Lua script, and the digest by which the server knows it. */
export interface Script {
  text: string;
  digest: string;
}

// What the scripts share. `P` is the prefix of all keys.
const PRELUDE = `
local P = KEYS[1]

-- Tasks as readTasks takes them, appended to an answer.
local function show(out, ids)
  for _, id in ipairs(ids) do
    local t = redis.call('HMGET', P .. 'task:' .. id, 'record', 'payload', 'worker', 'taken')
    local n = #out
    if t[1] then out[n + 1], out[n + 2], out[n + 3], out[n + 4] = t[1], t[2], t[3] or '', t[4] or '' end
  end
  return out
end

-- The clients that are asked about: the one that is given, or all.
local function clients_of(isOne, client)
  if isOne == '1' then return { client } end
  return redis.call('SMEMBERS', P .. 'clients')
end

-- Engines listen on one channel; nothing is sent while there is only one.
local function others() return redis.call('PUBSUB', 'NUMSUB', P .. 'notices')[2] > 1 end
local function publish(origin, notices) redis.call('PUBLISH', P .. 'notices', origin .. cjson.encode(notices)) end

local function enqueue(id, type, lane, rank, since, member)
  if redis.call('SADD', P .. 'lanes', lane) == 1 then
    redis.call('INCR', P .. 'lanes:version')
    -- Requirements may be anything: now and then forget queues that have run empty.
    if redis.call('SCARD', P .. 'lanes') % 128 == 0 then
      for _, name in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
        if name ~= lane and redis.call('EXISTS', P .. 'queue:' .. name) == 0 then
          redis.call('SREM', P .. 'lanes', name)
        end
      end
    end
  end
  redis.call('ZADD', P .. 'queue:' .. lane, rank, member)
  redis.call('ZADD', P .. 'ages:' .. type, since, id)
end
local function dequeue(id, type, lane, member)
  redis.call('ZREM', P .. 'queue:' .. lane, member)
  redis.call('ZREM', P .. 'ages:' .. type, id)
end
local function count_held(type, change)
  if redis.call('HINCRBY', P .. 'held', type, change) == 0 then redis.call('HDEL', P .. 'held', type) end
end

-- Puts a held task back to its place in its queue.
local function release(origin, id)
  local task = P .. 'task:' .. id
  local t = redis.call('HMGET', task, 'worker', 'type', 'lane', 'rank', 'since', 'member', 'queueBy')
  enqueue(id, t[2], t[3], t[4], t[5], t[6])
  redis.call('HDEL', task, 'worker', 'taken', 'assignment')
  redis.call('SREM', P .. 'held:' .. t[1], id)
  count_held(t[2], -1)
  if t[7] ~= '' then redis.call('ZADD', P .. 'due', t[7], id) else redis.call('ZREM', P .. 'due', id) end
  if others() then publish(origin, { { kind = 'queued', type = t[2] } }) end
end

-- An assignment that has reached its worker no longer bears the engine's name: only the worker's death undoes it.
local function confirm(from)
  for n = from, #ARGV do redis.call('HDEL', P .. 'task:' .. ARGV[n], 'assignment') end
end
`;

// With the first line the server refuses a script that it could not run to its end (memory full, read-only) before it
// has changed anything.
function script(firstLine: string, body: string): Script {
  const text = firstLine + PRELUDE + body;
  return { text, digest: hash("sha1", text, "hex") };
}
const change = (body: string) => script("#!lua", body);
const query = (body: string) => script("#!lua flags=no-writes", body);

/** Shares engine time, and releases the last assignments of engines that died. */
export const TIME = change(`
local now, origin = ARGV[1], ARGV[3]
local known = redis.call('GET', P .. 'time') or now
local passed = tonumber(now) - tonumber(known)
if passed < 0 then now, passed = known, 0 end
redis.call('SET', P .. 'time', now)
confirm(4)
-- No engine is late for what no engine saw: an outage counts for little here.
local beat = redis.call('INCRBYFLOAT', P .. 'beat', math.min(passed, ARGV[2] / 4))
redis.call('ZADD', P .. 'engines', beat, origin)
for _, dead in ipairs(redis.call('ZRANGE', P .. 'engines', '-inf', beat - ARGV[2], 'BYSCORE')) do
  redis.call('ZREM', P .. 'engines', dead)
  for _, worker in ipairs(redis.call('HKEYS', P .. 'workers')) do
    for _, id in ipairs(redis.call('SMEMBERS', P .. 'held:' .. worker)) do
      local assignment = redis.call('HGET', P .. 'task:' .. id, 'assignment')
      if assignment and string.sub(assignment, 1, #dead) == dead then release(origin, id) end
    end
  end
end
return now`);

/** An engine closes: its last assignments have arrived. */
export const LEAVE = change(`
confirm(2)
redis.call('ZREM', P .. 'engines', ARGV[1])
return 1`);

export const COMMIT = change(`
local at = 3
local function group(names)
  local values = {}
  for _, name in ipairs(names) do
    at = at + 1
    values[name] = ARGV[at]
  end
  return values
end
local function groups(count, names)
  local list = {}
  for n = 1, tonumber(count) do list[n] = group(names) end
  return list
end
local WRITE = { 'id', 'revision', 'client', 'status', 'find', 'body', 'wake', 'ended', 'listed', 'history',
  'key', 'fingerprint', 'month', 'limit', 'settles', 'withdraws', 'enqueues' }
local TASK = { 'id', 'type', 'lane', 'rank', 'since', 'age', 'timeout', 'queueBy', 'record', 'payload' }

local writes = {}
for n = 1, tonumber(ARGV[2]) do
  local w = group(WRITE)
  w.settle = groups(w.settles, { 'id', 'worker' })
  w.withdraw = groups(w.withdraws, { 'id' })
  w.enqueue = groups(w.enqueues, TASK)
  writes[n] = w
end

for _, w in ipairs(writes) do
  if w.key ~= '' then
    local known = redis.call('HGET', P .. 'idempotency', w.key)
    if known then
      local cut = string.find(known, '\\n', 1, true)
      return { 'duplicate', string.sub(known, 1, cut - 1), string.sub(known, cut + 1) }
    end
  end
  if w.month ~= '' then
    local used = tonumber(redis.call('HGET', P .. 'quota:' .. w.month, w.client) or '0')
    if used >= tonumber(w.limit) then return { 'over-quota' } end
  end
  w.old = redis.call('HMGET', P .. 'job:' .. w.id, 'revision', 'status', 'client', 'seq', 'ended', 'listed')
  if tonumber(w.old[1] or '0') ~= tonumber(w.revision) - 1 then return { 'conflict' } end
  for _, settled in ipairs(w.settle) do
    if redis.call('HGET', P .. 'task:' .. settled.id, 'worker') ~= settled.worker then return { 'conflict' } end
  end
end

local notices = others() and {}
local function remove(id, withdrawn)
  local t = redis.call('HMGET', P .. 'task:' .. id, 'job', 'type', 'lane', 'member', 'worker')
  if not t[1] then return end
  if t[5] then
    redis.call('SREM', P .. 'held:' .. t[5], id)
    count_held(t[2], -1)
    if withdrawn and notices then
      notices[#notices + 1] = { kind = 'withdrawn', taskId = id, jobId = t[1], workerId = t[5] }
    end
  else
    dequeue(id, t[2], t[3], t[4])
  end
  redis.call('ZREM', P .. 'due', id)
  redis.call('SREM', P .. 'tasks:' .. t[1], id)
  redis.call('DEL', P .. 'task:' .. id)
end

for _, w in ipairs(writes) do
  local job, old, seq = P .. 'job:' .. w.id, w.old, w.old[4]
  local fields = { 'revision', w.revision, 'status', w.status, 'find', w.find, 'body', w.body }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if not seq then
    seq = redis.call('INCR', P .. 'seq')
    add('client', w.client)
    add('seq', seq)
    redis.call('SADD', P .. 'clients', w.client)
    if w.key ~= '' then
      add('key', w.key)
      redis.call('HSET', P .. 'idempotency', w.key, w.id .. '\\n' .. w.fingerprint)
    end
    if w.month ~= '' then
      redis.call('HINCRBY', P .. 'quota:' .. w.month, w.client, 1)
      redis.call('EXPIRE', P .. 'quota:' .. w.month, ARGV[3])
    end
  end
  if w.history ~= '' then add('h' .. w.revision, w.history) end
  if w.ended ~= (old[5] or '') then add('ended', w.ended) end
  if w.listed ~= (old[6] or '') then add('listed', w.listed) end
  redis.call('HSET', job, unpack(fields))
  if w.status ~= old[2] then
    if old[2] then redis.call('ZREM', P .. 'by:' .. old[2] .. ':' .. w.client, w.id) end
    redis.call('ZADD', P .. 'by:' .. w.status .. ':' .. w.client, seq, w.id)
  end
  if w.ended ~= '' then redis.call('ZADD', P .. 'ended', w.ended, w.id)
  elseif old[5] and old[5] ~= '' then redis.call('ZREM', P .. 'ended', w.id) end
  if w.listed ~= '' then redis.call('ZADD', P .. 'listed:' .. w.client, seq, w.id)
  elseif old[6] and old[6] ~= '' then redis.call('ZREM', P .. 'listed:' .. w.client, w.id) end
  if w.wake ~= '' then redis.call('ZADD', P .. 'wake', w.wake, w.id)
  elseif old[1] then redis.call('ZREM', P .. 'wake', w.id) end
  if notices then notices[#notices + 1] = { kind = 'job', id = w.id, client = w.client } end
  for _, settled in ipairs(w.settle) do remove(settled.id, false) end
  for _, withdrawn in ipairs(w.withdraw) do remove(withdrawn.id, true) end
  for _, t in ipairs(w.enqueue) do
    -- Members of equal rank sort as texts: by age, then by order of queueing.
    local member = t.age .. string.format('%014x', redis.call('INCR', P .. 'seq')) .. t.id
    redis.call('HSET', P .. 'task:' .. t.id, 'job', w.id, 'type', t.type, 'lane', t.lane, 'rank', t.rank,
      'since', t.since, 'member', member, 'timeout', t.timeout, 'queueBy', t.queueBy, 'record', t.record, 'payload', t.payload)
    redis.call('SADD', P .. 'tasks:' .. w.id, t.id)
    if t.queueBy ~= '' then redis.call('ZADD', P .. 'due', t.queueBy, t.id) end
    enqueue(t.id, t.type, t.lane, t.rank, t.since, member)
    if notices then notices[#notices + 1] = { kind = 'queued', type = t.type } end
  end
end
if notices then publish(ARGV[1], notices) end
return { 'done' }`);

export const READ = query(`
local body = redis.call('HGET', P .. 'job:' .. ARGV[1], 'body')
if not body then return {} end
return show({ body }, redis.call('SMEMBERS', P .. 'tasks:' .. ARGV[1]))`);

export const CLAIM = change(`
local out, size = {}, 0
for _, id in ipairs(redis.call('ZRANGE', P .. 'wake', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  local body = redis.call('HGET', P .. 'job:' .. id, 'body')
  size = size + #body
  if #out > 0 and size > tonumber(ARGV[4]) then break end
  redis.call('ZADD', P .. 'wake', ARGV[2], id)
  out[#out + 1] = body
end
return out`);

export const LEASE = change(`
if redis.call('HGET', P .. 'job:' .. ARGV[1], 'revision') ~= ARGV[2] then return 0 end
redis.call('ZADD', P .. 'wake', ARGV[3], ARGV[1])
return 1`);

/** Assigns the first task of the given lanes; or answers with all lanes when they have changed. */
export const TAKE = change(`
local version = redis.call('GET', P .. 'lanes:version') or '0'
if version ~= ARGV[1] then
  local out = redis.call('SMEMBERS', P .. 'lanes')
  table.insert(out, 1, version)
  table.insert(out, 1, 'lanes')
  return out
end
local lane, member, rank
for n = 5, #ARGV do
  local head = redis.call('ZRANGE', P .. 'queue:' .. ARGV[n], 0, 0, 'WITHSCORES')
  local its = tonumber(head[2])
  if its and (not lane or its < rank or (its == rank and head[1] < member)) then
    lane, member, rank = ARGV[n], head[1], its
  end
end
if not lane then return {} end
local id = string.sub(member, 31)
local task = P .. 'task:' .. id
local t = redis.call('HMGET', task, 'type', 'timeout')
redis.call('HSET', task, 'worker', ARGV[2], 'taken', ARGV[3], 'assignment', ARGV[4])
redis.call('SADD', P .. 'held:' .. ARGV[2], id)
redis.call('ZADD', P .. 'due', string.format('%.17g', tonumber(ARGV[3]) + tonumber(t[2])), id)
dequeue(id, t[1], lane, member)
count_held(t[1], 1)
return show({}, { id })`);

/** Takes one task from a worker, named by its id or by the assignment that gave it. */
export const RELEASE = change(`
local ids = { ARGV[3] }
if ARGV[3] == '' then ids = redis.call('SMEMBERS', P .. 'held:' .. ARGV[2]) end
for _, id in ipairs(ids) do
  local t = redis.call('HMGET', P .. 'task:' .. id, 'worker', 'assignment')
  if t[1] == ARGV[2] and (ARGV[4] == '' or t[2] == ARGV[4]) then release(ARGV[1], id) end
end
return 1`);

export const DUE = query(`
return show({}, redis.call('ZRANGE', P .. 'due', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2]))`);

export const HELD = query(`
return show({}, redis.call('SMEMBERS', P .. 'held:' .. ARGV[1]))`);

/** Forgets a worker whose record has not changed meanwhile. */
export const DROP_WORKER = change(`
local known = redis.call('HGET', P .. 'workers', ARGV[1])
if not known or string.sub(known, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', P .. 'workers', ARGV[1])`);

/** A page of job ids, newest first. */
export const LIST = query(`
local rows = {}
for _, client in ipairs(clients_of(ARGV[3], ARGV[4])) do
  for n = 5, #ARGV do
    local found = redis.call('ZRANGE', P .. ARGV[n] .. ':' .. client, ARGV[1], '-inf', 'BYSCORE', 'REV',
      'LIMIT', 0, ARGV[2], 'WITHSCORES')
    for i = 1, #found, 2 do rows[#rows + 1] = { found[i], tonumber(found[i + 1]) } end
  end
end
table.sort(rows, function(a, b) return a[2] > b[2] end)
local out = {}
for n = 1, math.min(#rows, tonumber(ARGV[2])) do
  local job = redis.call('HMGET', P .. 'job:' .. rows[n][1], 'seq', 'status', 'find')
  out[#out + 1] = rows[n][1]
  for i = 1, 3 do out[#out + 1] = job[i] end
end
return out`);

export const COUNTS = query(`
local clients, out = clients_of(ARGV[1], ARGV[2]), {}
for n = 3, #ARGV do
  local sum = 0
  for _, client in ipairs(clients) do sum = sum + redis.call('ZCARD', P .. 'by:' .. ARGV[n] .. ':' .. client) end
  out[#out + 1] = sum
end
return out`);

export const QUEUES = query(`
local out, known = {}, {}
local function add(...) for _, value in ipairs({ ... }) do out[#out + 1] = value end end
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
  local type = cjson.decode(lane)[1]
  local oldest = redis.call('ZRANGE', P .. 'ages:' .. type, 0, 0, 'WITHSCORES')
  if oldest[2] and not known[type] then
    known[type] = true
    add(type, redis.call('ZCARD', P .. 'ages:' .. type), oldest[2], redis.call('HGET', P .. 'held', type) or 0)
  end
end
local held = redis.call('HGETALL', P .. 'held')
for n = 1, #held, 2 do
  if not known[held[n]] then add(held[n], 0, '', held[n + 1]) end
end
return out`);

export const ADD_TALLIES = change(`
for n = 2, #ARGV, 4 do
  local key = P .. 'tally:' .. ARGV[n]
  redis.call('ZADD', P .. 'tallies', ARGV[n], ARGV[n])
  redis.call('HINCRBY', key, 's' .. ARGV[n + 1], ARGV[n + 2])
  redis.call('HINCRBY', key, 'f' .. ARGV[n + 1], ARGV[n + 3])
  redis.call('EXPIRE', key, ARGV[1])
end
return 1`);

export const TALLIES = query(`
local out = {}
for _, day in ipairs(redis.call('ZRANGE', P .. 'tallies', ARGV[1], '+inf', 'BYSCORE')) do
  for _, value in ipairs(redis.call('HGETALL', P .. 'tally:' .. day)) do out[#out + 1] = value end
end
return out`);

export const PRUNE = script(
  "#!lua flags=allow-oom",
  `
local ids = redis.call('ZRANGE', P .. 'ended', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', P .. 'job:' .. id, 'status', 'client', 'key')
  redis.call('ZREM', P .. 'by:' .. job[1] .. ':' .. job[2], id)
  redis.call('ZREM', P .. 'listed:' .. job[2], id)
  redis.call('ZREM', P .. 'wake', id)
  redis.call('ZREM', P .. 'ended', id)
  if job[3] then redis.call('HDEL', P .. 'idempotency', job[3]) end
  redis.call('DEL', P .. 'job:' .. id)
end
return #ids`,
);

const QUOTA_SECONDS = 400 * 86_400;

/** Queued tasks that are alike in all that `fits` looks at share a queue: it is asked once, however many wait there. */
export type Lane = { name: string } & Demands;

function laneOf({ type, needs, maxCost, unknownCostPasses }: Demands): string {
  return needs === undefined && maxCost === undefined
    ? JSON.stringify([type])
    : JSON.stringify([type, needs ?? null, maxCost ?? null, unknownCostPasses ?? false]);
}

/** A lane by its name. */
export function readLane(name: string): Lane {
  const [type, needs, maxCost, unknownCostPasses] = JSON.parse(name);
  return { name, type, needs: needs ?? undefined, maxCost: maxCost ?? undefined, unknownCostPasses };
}

// A text for each moment of engine time, in the same order: the bits of a positive number are in order.
function sortable(moment: number): string {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, moment);
  return bits.getBigUint64(0).toString(16).padStart(16, "0");
}

/** The arguments of `COMMIT`, in the order of its `WRITE` and `TASK`. */
export function commitArguments(origin: string, writes: readonly JobWrite[]): (string | number)[] {
  const args: (string | number)[] = [origin, writes.length, QUOTA_SECONDS];
  for (const { job, wakeAt, enqueue = [], settle = [], withdraw = [], history = [], admission } of writes) {
    const { idempotency, quota } = admission ?? {};
    args.push(
      job.id,
      job.revision,
      job.client,
      job.status,
      `${job.blueprint}\n${job.state}\n${job.error ?? ""}`,
      JSON.stringify(job),
      wakeAt ?? "",
      hasEnded(job) ? job.endedAt : "",
      job.listed ? "1" : "",
      history.length === 0 ? "" : JSON.stringify(history),
      idempotency === undefined ? "" : `${job.client}\0${idempotency.key}`,
      idempotency?.fingerprint ?? "",
      quota?.month ?? "",
      quota?.limit ?? 0,
      settle.length,
      withdraw.length,
      enqueue.length,
    );
    for (const { taskId, workerId } of settle) args.push(taskId, workerId);
    for (const taskId of withdraw) args.push(taskId);
    for (const { payload, ...record } of enqueue) {
      const { id, type, priority, since, timeoutMs, queueBy = "" } = record;
      const lane = laneOf(record);
      args.push(
        id,
        type,
        lane,
        -priority,
        since,
        sortable(since),
        timeoutMs,
        queueBy,
        JSON.stringify(record),
        payload,
      );
    }
  }
  return args;
}

/** Tasks of an answer, four texts each: record, payload, worker and moment of its taking (empty when queued). */
export function readTasks(flat: string[]): Task[] {
  return inGroups(flat, 4).map(([record, payload, workerId, takenAt]) =>
    workerId === ""
      ? { ...JSON.parse(record), payload }
      : { ...JSON.parse(record), payload, workerId, takenAt: Number(takenAt) }
  );
}

/** The tasks of an answer that are assigned. */
export function readHeld(flat: string[]): HeldTask[] {
  return readTasks(flat).filter((task) => task.workerId !== undefined);
}

/** An answer's values as texts. */
export function texts(reply: unknown): string[] {
  return Array.isArray(reply) ? reply.map(String) : [];
}

/** A flat answer in groups of as many values. */
export function inGroups(flat: string[], size: 2): [string, string][];
export function inGroups(flat: string[], size: 4): [string, string, string, string][];
export function inGroups(flat: string[], size: number): string[][] {
  return Array.from({ length: flat.length / size }, (_, n) => flat.slice(n * size, n * size + size));
}
