// A TCP proxy that delays each byte by the same time in both directions, in a process of its own:
// delaying-proxy.mjs PORT TO_PORT DELAY_MS. It stands for a network where the kernel has no netem.
import { connect, createServer } from 'node:net';

const [port, to, delayMs] = process.argv.slice(2).map(Number);

/** Passes bytes on in their order: timers of one length end in the order in which they began. */
function pass(from, into) {
  from.on('data', (chunk) => setTimeout(() => into.write(chunk), delayMs));
  from.on('end', () => setTimeout(() => into.end(), delayMs));
  from.on('error', () => into.destroy());
}

createServer({ allowHalfOpen: true }, (client) => {
  const server = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
  client.setNoDelay(true);
  server.setNoDelay(true);
  pass(client, server);
  pass(server, client);
}).listen(port, '127.0.0.1', () => console.log('ready'));
