import { expect, it } from 'vitest';
import { Exports } from '../../src/export/exports.js';
import { RateSampler } from '../../src/export/rates.js';
import { MemoryDevice } from '../../src/storage/memory.js';

it('rates are the growth of the counters within the last two to three samples', () => {
  const exports = new Exports();
  const { counters, meter } = exports.add({ name: 'disk', device: new MemoryDevice(4096), metered: true });
  const rates = new RateSampler(exports);
  expect(rates.of(counters, meter, 0)).toEqual({ requests: 0, bytesRead: 0, bytesWritten: 0 });
  counters.requests = 1000;
  rates.sample(1000);
  counters.requests += 30;
  counters.bytesRead += 3000;
  // 97 % of the requests took at most 0.1 ms, the others up to 5 ms.
  meter!.counts.read.buckets[1]! += 97;
  meter!.counts.write.buckets[6]! += 3;
  rates.sample(2000);
  const latency = { p50: 0.0001, p99: 0.005 };
  expect(rates.of(counters, meter, 2000)).toEqual({ requests: 30, bytesRead: 3000, bytesWritten: 0, latency });
  expect(rates.of(counters, undefined, 4000)).toEqual({ requests: 10, bytesRead: 1000, bytesWritten: 0 });
  for (const at of [3000, 4000, 5000]) rates.sample(at);
  expect(rates.of(counters, meter, 5500)).toEqual({ requests: 0, bytesRead: 0, bytesWritten: 0 });
});

it('counters of clients that have left are forgotten, and a client that has just come has no rate yet', () => {
  const exports = new Exports();
  const offered = exports.add({ name: 'disk', device: new MemoryDevice(4096) });
  const rates = new RateSampler(exports);
  const counters = { requests: 0, bytesRead: 0, bytesWritten: 0, lastWrite: undefined };
  const user = { id: '1', peer: 'x', tlsName: undefined, token: undefined, since: 0, counters };
  offered.users.add(user);
  rates.sample(0);
  counters.requests = 5;
  expect(rates.of(counters, undefined, 1000).requests).toBe(5);
  offered.users.delete(user);
  rates.sample(1000);
  expect(rates.of(counters, undefined, 2000).requests).toBe(0);
});
