/** The model of bench/scale.mjs against closed forms of queueing theory. */
import { describe, expect, it } from 'vitest';
import { simulate, type ModelOptions } from '../../bench/scale-model.mjs';

/**
 * Requests a second of one server with exponential times of mean `service`, and `clients` clients
 * that think for an exponential time of mean `think`: the queue M/M/1//N (Kleinrock, Queueing
 * Systems 1, 1975, §3.8).
 */
function finiteSource(clients: number, think: number, service: number): number {
  // Probabilities of n requests at the server, up to a common factor, as logarithms.
  const logs = [0];
  for (let n = 1; n <= clients; n++) logs.push(logs[n - 1]! + Math.log(((clients - n + 1) * service) / think));
  const most = Math.max(...logs);
  const weights = logs.map((log) => Math.exp(log - most));
  return (1 - weights[0]! / weights.reduce((sum, weight) => sum + weight, 0)) / service;
}

const ms = 1e-3;
const common = { gateways: 1, seconds: 2000, warmup: 50 } satisfies Partial<ModelOptions>;
const loss = { at: 10, share: 0.01, frozen: false, detection: 0, handshake: ms, backoff: 0.1, longestBackoff: 2 };

describe('the model of gateways', () => {
  it.each([
    ['a lightly loaded gateway', 20, 1, 10 * ms],
    ['a busy gateway', 120, 1, 10 * ms],
    ['an overloaded gateway', 150, 1, 10 * ms],
    ['one client', 1, 10 * ms, 10 * ms],
  ])('gives %s the throughput of M/M/1//N, and times by Little’s law', (_name, clients, think, service) => {
    const expected = finiteSource(clients, think, service);
    const { throughput, mean, busy } = simulate({
      ...common,
      clients,
      think: { mean: think },
      service: { mean: service },
    });
    expect(throughput / expected).toBeCloseTo(1, 1.5);
    expect(busy / (expected * service)).toBeCloseTo(1, 1.5);
    // N = X (R + Z)
    expect((expected * (mean + think)) / clients).toBeCloseTo(1, 1.5);
  });

  it('gives many clients the times of M/M/1 and of M/D/1', () => {
    // 1000 clients that seldom ask are nearly a Poisson stream.
    const [clients, think, service] = [1000, 10, 7 * ms];
    const arrivals = clients / (think + 0.02);
    const random = simulate({ ...common, clients, think: { mean: think }, service: { mean: service } });
    const rate = 1 / service - arrivals;
    expect(random.mean * rate).toBeCloseTo(1, 1);
    expect(random.p50 / (Math.LN2 / rate)).toBeCloseTo(1, 1);
    expect(random.p99 / (Math.log(100) / rate)).toBeCloseTo(1, 1);
    const fixed = simulate({ ...common, clients, think: { mean: think }, service: { mean: service, fixed: true } });
    const load = arrivals * service;
    expect(fixed.mean / (service + (load * service) / (2 * (1 - load)))).toBeCloseTo(1, 1);
  });

  it('adds network and storage to each request, and shares clients among gateways', () => {
    const found = simulate({
      gateways: 4,
      clients: 40,
      seconds: 100,
      think: { mean: 1 },
      service: { mean: 1e-6, fixed: true },
      storage: { mean: 2 * ms, fixed: true },
      network: ms,
    });
    expect(found.mean).toBeCloseTo(4 * ms, 4);
    expect(found.throughput).toBeCloseTo(40, -0.5);
  });

  it('gives the same result for the same seed, and others for others', () => {
    const options = { ...common, seconds: 100, clients: 50, think: { mean: 1 }, service: { mean: ms } };
    expect(simulate({ ...options, seed: 3 })).toEqual(simulate({ ...options, seed: 3 }));
    expect(simulate({ ...options, seed: 3 }).mean).not.toBe(simulate({ ...options, seed: 4 }).mean);
  });

  it('loses the clients of lost gateways only, and all of them come back', () => {
    const options = { gateways: 100, clients: 10_000, seconds: 15, warmup: 1, network: ms / 10 };
    const load = { think: { mean: 1 }, service: { mean: ms / 10 }, storage: { mean: ms } };
    const killed = simulate({ ...options, ...load, loss });
    expect(killed.affected).toBe(100);
    // TCP, the handshake, and for one of a hundred a second attempt after the back-off.
    expect(killed.back).toBeGreaterThan(1.6 * ms);
    expect(killed.back).toBeLessThan(0.5);
    expect(killed.throughputAfter! / killed.throughput).toBeCloseTo(1, 1.5);
    const frozen = simulate({ ...options, ...load, loss: { ...loss, frozen: true, detection: 2 } });
    expect(frozen.pauseP50).toBeGreaterThan(2);
    expect(frozen.pauseMax).toBeLessThan(4.5);
    // Half of the gateways: the others take all of the clients.
    const half = simulate({ ...options, ...load, loss: { ...loss, share: 0.5 } });
    expect(half.affected).toBe(5000);
    expect(half.throughputAfter! / half.throughput).toBeCloseTo(1, 1.5);
  });
});
