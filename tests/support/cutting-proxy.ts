/**
 * A TCP proxy that is gone for a while: after so many bytes from the clients it ends all
 * connections, and ends new ones at once until the time is over.
 */
import { connect, createServer, type Socket } from 'node:net';

export interface CuttingProxy {
  readonly port: number;
  /** Number of connections that were ended or refused. */
  readonly cuts: () => number;
  close(): void;
}

export async function cuttingProxy(target: number, afterBytes: number, goneMs: number): Promise<CuttingProxy> {
  const open = new Set<Socket>();
  let seen = 0;
  let cuts = 0;
  /** Time at which it is back; undefined before the cut. */
  let back: number | undefined;
  const end = (socket: Socket) => {
    cuts++;
    socket.destroy();
  };
  const server = createServer((client) => {
    client.on('error', () => undefined);
    if (back !== undefined && performance.now() < back) return end(client);
    const far = connect(target, '127.0.0.1');
    far.on('error', () => client.destroy());
    open.add(client);
    client.on('data', (bytes) => {
      seen += bytes.length;
      if (seen < afterBytes || back !== undefined) return;
      back = performance.now() + goneMs;
      for (const one of open) end(one);
    });
    client.on('close', () => {
      open.delete(client);
      far.destroy();
    });
    far.on('close', () => client.destroy());
    client.pipe(far);
    far.pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    cuts: () => cuts,
    close() {
      server.close();
      for (const one of open) one.destroy();
    },
  };
}
