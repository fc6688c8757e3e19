/**
 * A discrete-event model of gateways that serve disks of one storage pool, for bench/scale.mjs.
 *
 * - A client has one request in flight at a time: it thinks for an exponential time, then sends a
 *   request to its gateway.
 * - A gateway is one thread: a queue in the order of arrival with one server. Its time for a
 *   request (from parsing to the answer) is spent at once; the storage pool then takes its time, in
 *   which the gateway serves others. The pool itself never has a queue.
 * - When gateways are lost, each client of them notices after the detection time, connects to a
 *   gateway that it draws, again after a back-off if that one is lost too, and repeats its request.
 *   Each connection costs the new gateway its handshake.
 *
 * Times are in seconds. The same seed gives the same result on every machine. A queue needs no
 * events of its own: requests arrive in the order of time, so the end of each is known when it
 * arrives. That leaves one event for a request.
 */

/** A generator of numbers in (0, 1]: Marsaglia's xorshift with 32 bits, after a mix of the seed. */
export function randomOf(seed) {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 1) / 2 ** 32;
  };
}

/** Draws times: `{ mean }`, `{ mean, fixed: true }`, or `{ quantiles }`: sorted, equally spaced. */
export function timesOf({ mean = 0, fixed = false, quantiles }, random) {
  if (quantiles) return () => quantiles[Math.min(quantiles.length - 1, Math.floor(random() * quantiles.length))];
  if (fixed || mean === 0) return () => mean;
  return () => -mean * Math.log(random());
}

/** Counts times in classes whose bounds differ by 1 %, from 1 µs on. */
class Histogram {
  #counts = new Float64Array(4096);
  #count = 0;
  #sum = 0;

  add(seconds, weight = 1) {
    const index = Math.max(0, Math.floor(Math.log(seconds * 1e6) / Math.log(1.01)));
    this.#counts[Math.min(index, 4095)] += weight;
    this.#count += weight;
    this.#sum += weight * seconds;
  }

  get count() {
    return this.#count;
  }

  get mean() {
    return this.#sum / this.#count;
  }

  quantile(share) {
    let left = share * this.#count;
    for (let index = 0; index < 4096; index++) {
      left -= this.#counts[index];
      if (left < 0) return 1.01 ** (index + 0.5) / 1e6;
    }
    return Infinity;
  }
}

/** A heap of events: one time for each client, the earliest first; with four children a node. */
class Events {
  #times;
  #clients;
  #size = 0;

  constructor(capacity) {
    this.#times = new Float64Array(capacity);
    this.#clients = new Int32Array(capacity);
  }

  get size() {
    return this.#size;
  }

  get time() {
    return this.#times[0];
  }

  push(time, client) {
    const times = this.#times;
    const clients = this.#clients;
    let at = this.#size++;
    if (at >= times.length) throw new Error('more events than the heap has room for');
    while (at > 0) {
      const parent = (at - 1) >> 2;
      if (times[parent] <= time) break;
      times[at] = times[parent];
      clients[at] = clients[parent];
      at = parent;
    }
    times[at] = time;
    clients[at] = client;
  }

  /** Removes the earliest event and returns its client. */
  pop() {
    const times = this.#times;
    const clients = this.#clients;
    const first = clients[0];
    const size = --this.#size;
    const time = times[size];
    const client = clients[size];
    let at = 0;
    for (;;) {
      let least = 4 * at + 1;
      if (least >= size) break;
      const end = Math.min(least + 4, size);
      for (let child = least + 1; child < end; child++) if (times[child] < times[least]) least = child;
      if (times[least] >= time) break;
      times[at] = times[least];
      clients[at] = clients[least];
      at = least;
    }
    times[at] = time;
    clients[at] = client;
    return first;
  }
}

/** Kinds of a client's next event. */
const arrives = 0;
const connects = 1;

/**
 * Runs the model.
 * @param {object} options
 *   gateways, clients, seconds, warmup (seconds that are not counted), seed;
 *   think, service, storage: times (see timesOf); network: seconds of one way;
 *   burst: `service` is a limit of the rate, as by `rate=`, whose bucket holds so many seconds;
 *   loss: { at, share, frozen, detection, handshake, backoff, longestBackoff }.
 * @returns throughput a second, mean, p50, p99, busy (share of the gateways' time), all before the
 *   loss if there is one; and for a loss: affected (clients), pauseP50, pauseP99, pauseMax (of
 *   their next requests), back (seconds until all of them are connected again), throughputAfter,
 *   p99After (of all requests in the second after the loss)
 */
export function simulate(options) {
  const { gateways, clients, seconds, warmup = 0, seed = 1, network = 0, burst = 0, loss } = options;
  const random = randomOf(seed);
  const think = timesOf(options.think, random);
  const service = timesOf(options.service, random);
  const storage = timesOf(options.storage ?? {}, random);
  const events = new Events(2 * clients + 1);
  const gatewayOf = new Int32Array(clients);
  const next = new Uint8Array(clients);
  /** Time of a client's next event: others in the heap are obsolete. */
  const eventAt = new Float64Array(clients);
  const sentAt = new Float64Array(clients);
  const doneAt = new Float64Array(clients);
  const pauses = new Float64Array(clients);
  const backoff = new Float64Array(clients);
  const freeAt = new Float64Array(gateways);
  const lost = new Uint8Array(gateways);
  const latencies = new Histogram();
  const after = new Histogram();
  let busy = 0;
  let isLost = false;
  let back = 0;
  let affected = 0;
  let answeredAfter = 0;
  const repeated = new Uint8Array(clients);

  const schedule = (client, time, kind) => {
    next[client] = kind;
    eventAt[client] = time;
    events.push(time, client);
  };

  /** Spends `time` of the gateway when it is free; returns the end. */
  const work = (gateway, now, time) => {
    if (now >= warmup && !isLost) busy += time;
    return (freeAt[gateway] = Math.max(now, freeAt[gateway]) + time);
  };

  /** A request arrives: its end, and the arrival of the next, are known now. */
  const serve = (client, now) => {
    const gateway = gatewayOf[client];
    const ahead = Math.max(now, freeAt[gateway] - burst);
    const end = work(gateway, now, service());
    // A limit of the rate delays the requests that come after, not the one that passes.
    const done = (burst > 0 ? ahead : end) + storage() + network;
    doneAt[client] = done;
    const latency = done - sentAt[client];
    if (isLost) {
      answeredAfter++;
      if (now < loss.at + 1) after.add(latency);
    } else if (now >= warmup) latencies.add(latency);
    if (repeated[client]) {
      repeated[client] = 0;
      pauses[client] = Math.max(pauses[client], latency);
    }
    sentAt[client] = done + think();
    schedule(client, sentAt[client] + network, arrives);
  };

  const lose = () => {
    isLost = true;
    const count = Math.max(1, Math.round(gateways * loss.share));
    for (let left = count; left > 0;) {
      const gateway = Math.min(gateways - 1, Math.floor(random() * gateways));
      if (lost[gateway]) continue;
      lost[gateway] = 1;
      left--;
    }
    for (let client = 0; client < clients; client++) {
      if (!lost[gatewayOf[client]]) continue;
      affected++;
      // A request is in flight if it was sent, and its answer has not arrived.
      const isAnswered = doneAt[client] <= loss.at;
      const inFlight = !isAnswered || sentAt[client] < loss.at;
      // Its pause counts from the loss. (`sentAt` is that of the next request already.)
      if (!isAnswered) sentAt[client] = loss.at;
      repeated[client] = 1;
      // A killed gateway's connections end at once. A frozen one is noticed by a request.
      const began = inFlight || !loss.frozen ? loss.at : sentAt[client];
      backoff[client] = loss.backoff;
      schedule(client, began + (loss.frozen ? loss.detection : network), connects);
    }
  };

  const connect = (client, now) => {
    const gateway = Math.min(gateways - 1, Math.floor(random() * gateways));
    if (lost[gateway]) {
      const wait = loss.frozen ? loss.detection : 2 * network + backoff[client] * (0.5 + random() / 2);
      backoff[client] = Math.min(loss.longestBackoff, 2 * backoff[client]);
      schedule(client, now + wait, connects);
      return;
    }
    gatewayOf[client] = gateway;
    // TCP and the handshake of NBD: three round trips.
    const there = work(gateway, now + 6 * network, loss.handshake);
    back = Math.max(back, there - loss.at);
    // A request that was due meanwhile is sent now; its time counts from when it was due.
    schedule(client, Math.max(there, sentAt[client]) + network, arrives);
  };

  for (let client = 0; client < clients; client++) {
    gatewayOf[client] = client % gateways;
    sentAt[client] = think();
    schedule(client, sentAt[client] + network, arrives);
  }
  while (events.size > 0 && events.time < seconds) {
    const now = events.time;
    if (loss && !isLost && now >= loss.at) lose();
    const client = events.pop();
    if (now !== eventAt[client]) continue;
    if (next[client] === arrives) serve(client, now);
    else connect(client, now);
  }
  const counted = (loss?.at ?? seconds) - warmup;
  const result = {
    throughput: latencies.count / counted,
    mean: latencies.mean,
    p50: latencies.quantile(0.5),
    p99: latencies.quantile(0.99),
    busy: busy / counted / gateways,
  };
  if (!loss) return result;
  const sorted = pauses.filter((pause) => pause > 0).sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const pausesFound = { pauseP50: at(0.5), pauseP99: at(0.99), pauseMax: at(1) };
  const throughputAfter = answeredAfter / (seconds - loss.at);
  return { ...result, affected, ...pausesFound, back, throughputAfter, p99After: after.quantile(0.99) };
}
