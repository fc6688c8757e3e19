/** Types of scale-model.mjs, for the test. Times are in seconds. */

export interface Times {
  readonly mean?: number;
  readonly fixed?: boolean;
  readonly quantiles?: readonly number[];
}

export interface ModelOptions {
  readonly gateways: number;
  readonly clients: number;
  readonly seconds: number;
  readonly warmup?: number;
  readonly seed?: number;
  readonly think: Times;
  readonly service: Times;
  readonly storage?: Times;
  readonly network?: number;
  readonly burst?: number;
  readonly loss?: {
    readonly at: number;
    readonly share: number;
    readonly frozen: boolean;
    readonly detection: number;
    readonly handshake: number;
    readonly backoff: number;
    readonly longestBackoff: number;
  };
}

export interface ModelResult {
  readonly throughput: number;
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly busy: number;
  readonly affected?: number;
  readonly pauseP50?: number;
  readonly pauseP99?: number;
  readonly pauseMax?: number;
  readonly back?: number;
  readonly throughputAfter?: number;
  readonly p99After?: number;
}

export function simulate(options: ModelOptions): ModelResult;
export function randomOf(seed: number): () => number;
export function timesOf(times: Times, random: () => number): () => number;
