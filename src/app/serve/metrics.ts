/** Serves the metrics of a server over HTTP, for Prometheus (docs/serve.md). */
import { createServer, type Server as HttpServer } from 'node:http';
import { hostname } from 'node:os';
import { FarbusError, usageError } from '../../base/errors.js';
import { metricsText, type MeteredServer } from '../../export/metrics.js';
import type { RateSampler } from '../../export/rates.js';
import { whyNotListening } from '../../network/listen.node.js';
import { isOwnHost } from '../../web/server/checks.js';

/**
 * Serves them at `text`, HOST:PORT or PORT.
 * @throws FarbusError if that is no address, or cannot be listened at
 */
export async function serveMetrics(text: string, server: MeteredServer, rates: RateSampler): Promise<HttpServer> {
  const match = /^(?:(\[[0-9a-f:]+\]|[\w.-]+):)?(\d{1,5})$/i.exec(text);
  if (!match) throw usageError(`--metrics ${text}: expected HOST:PORT or PORT, for example 127.0.0.1:9464`);
  if (Number(match[2]) > 65_535) throw usageError(`--metrics ${text}: a port is a number from 0 to 65535`);
  const host = match[1]?.replace(/^\[|\]$/g, '') ?? '127.0.0.1';
  const rules = { names: new Set([host, hostname()].map((one) => one.toLowerCase())), origins: new Set<string>() };
  const http = createServer((request, response) => {
    // A page of another site could read the figures by a name that leads here.
    if (!isOwnHost(request.headers.host, rules)) {
      response.writeHead(421, { 'Content-Type': 'text/plain; charset=utf-8' });
      return void response.end('metrics are at the address of --metrics, not at this name\n');
    }
    const known = request.url === '/metrics' && request.method === 'GET';
    response.writeHead(known ? 200 : 404, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(known ? metricsText(server, rates, processFigures()) : 'metrics are at /metrics\n');
  });
  http.requestTimeout = http.headersTimeout = 10_000;
  // A client that does not read its answer would keep its place for ever.
  http.timeout = 30_000;
  http.maxConnections = 16;
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen({ host, port: Number(match[2]) }, resolve);
  }).catch((error: unknown) => {
    throw new FarbusError(`cannot serve metrics at ${text}: ${whyNotListening(error)}`, { cause: error });
  });
  http.on('error', () => undefined);
  return http;
}

function processFigures(): Record<string, number> {
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return {
    process_resident_memory_bytes: rss,
    nodejs_heap_used_bytes: heapUsed,
    process_cpu_seconds_total: (user + system) / 1e6,
    process_start_time_seconds: Math.round(Date.now() / 1000 - process.uptime()),
  };
}
