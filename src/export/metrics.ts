/** The metrics of a server, by export, in the text format of Prometheus (version 0.0.4). */
import { visible } from '../base/printable.js';
import { latencyBounds } from './meter.js';
import type { Exports, Offered } from './exports.js';
import type { RateSampler } from './rates.js';

/** The server of the exports, as far as its metrics go. */
export interface MeteredServer {
  readonly exports: Exports;
  /** Number of open connections. */
  readonly connections: number;
  /** Number of connections since the start, and how many of them exceeded a limit. */
  readonly counts: { readonly accepted: number; readonly refused: number };
}

/**
 * The text that a scrape returns.
 * @param rates the present rates of the exports
 * @param process metrics of this process: values in their base units by metric name
 */
export function metricsText(
  server: MeteredServer,
  rates: RateSampler,
  process: Readonly<Record<string, number>> = {},
): string {
  const lines: string[] = [];
  const metric = (name: string, type: string, help: string, samples: Iterable<readonly [string, number]>): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) lines.push(`${name}${labels} ${value}`);
  };
  const exports = [...server.exports.list()];
  const by = (value: (of: Offered) => number): [string, number][] =>
    exports.map((one) => [`{export=${quoted(one.name)}}`, value(one)]);
  metric('farbus_connections', 'gauge', 'Connections that are open.', [['', server.connections]]);
  metric('farbus_connections_accepted_total', 'counter', 'Connections that came.', [['', server.counts.accepted]]);
  metric('farbus_connections_refused_total', 'counter', 'Connections over the limit.', [['', server.counts.refused]]);
  metric(
    'farbus_export_connections',
    'gauge',
    'Connections that use an export.',
    by(({ users }) => users.size),
  );
  metric(
    'farbus_export_connections_total',
    'counter',
    'Connections that have used an export.',
    by(({ counters }) => counters.connections),
  );
  metric(
    'farbus_export_size_bytes',
    'gauge',
    'Size of an export.',
    by(({ device }) => device.info.size),
  );
  metric(
    'farbus_export_away',
    'gauge',
    'Is 1 if the server of the source is lost.',
    by(({ device }) => (device.info.away === undefined ? 0 : 1)),
  );
  metric(
    'farbus_requests_total',
    'counter',
    'Requests begun.',
    by(({ counters }) => counters.requests),
  );
  metric(
    'farbus_errors_total',
    'counter',
    'Requests answered with an error.',
    by(({ counters }) => counters.errors),
  );
  metric(
    'farbus_read_bytes_total',
    'counter',
    'Bytes sent in replies to reads.',
    by(({ counters }) => counters.bytesRead),
  );
  metric(
    'farbus_written_bytes_total',
    'counter',
    'Bytes of writes that succeeded.',
    by(({ counters }) => counters.bytesWritten),
  );
  metric(
    'farbus_requests_per_second',
    'gauge',
    'Requests per second, over the last seconds.',
    by(({ counters }) => rates.of(counters).requests),
  );
  metric(
    'farbus_read_bytes_per_second',
    'gauge',
    'Bytes read per second, over the last seconds.',
    by(({ counters }) => rates.of(counters).bytesRead),
  );
  metric(
    'farbus_written_bytes_per_second',
    'gauge',
    'Bytes written per second, over the last seconds.',
    by(({ counters }) => rates.of(counters).bytesWritten),
  );
  lines.push(...histograms(server.exports));
  for (const [name, value] of Object.entries(process)) {
    metric(name, name.endsWith('_total') ? 'counter' : 'gauge', 'Of the server process.', [['', value]]);
  }
  return `${lines.join('\n')}\n`;
}

function histograms(exports: Exports): string[] {
  const name = 'farbus_device_request_seconds';
  const errors = 'farbus_device_errors_total';
  const lines = [`# HELP ${name} Time that the device took, by kind of request.`, `# TYPE ${name} histogram`];
  const failed = [`# HELP ${errors} Requests that the device failed.`, `# TYPE ${errors} counter`];
  for (const { name: of, meter } of exports.list()) {
    for (const [op, counts] of Object.entries(meter?.counts ?? {})) {
      const labels = `export=${quoted(of)},op="${op}"`;
      let sum = 0;
      for (const [index, count] of counts.buckets.entries()) {
        sum += count;
        lines.push(`${name}_bucket{${labels},le="${latencyBounds[index] ?? '+Inf'}"} ${sum}`);
      }
      lines.push(`${name}_sum{${labels}} ${counts.seconds}`, `${name}_count{${labels}} ${sum}`);
      failed.push(`${errors}{${labels}} ${counts.errors}`);
    }
  }
  return [...lines, ...failed];
}

function quoted(text: string): string {
  return `"${visible(text).replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`;
}
