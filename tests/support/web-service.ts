/** A server with its web server in this process, composed as `farbus serve --web` does. */
import { bootId } from '../../src/base/boot-id.node.js';
import { silent } from '../../src/base/log.js';
import { ServeService } from '../../src/app/serve/service.js';
import { exportsOf } from '../../src/app/serve/settings.js';
import { startWeb, type Web } from '../../src/app/web/serve.js';
import { CommandWatch } from '../../src/export/watch.js';
import { Tokens } from '../../src/web/server/tokens.node.js';

export interface WebService {
  /** "127.0.0.1:PORT" of the web server. */
  readonly at: string;
  /** The console token. */
  readonly token: string;
  readonly tokens: Tokens;
  readonly service: ServeService;
  readonly web: Web;
  /** `fetch` of a path with the console token. */
  get(path: string, init?: RequestInit): Promise<Response>;
  close(): Promise<void>;
}

/** @param sources as on the command line: `disk=memory:4M` */
export async function webService(...sources: readonly string[]): Promise<WebService> {
  const watch = new CommandWatch();
  const service = new ServeService({ log: silent, bootId: bootId(), sockets: [], watch });
  const tls = { 'tls-verify-peer': false };
  await service.start({
    listen: ['nbd://127.0.0.1:0'],
    exports: exportsOf(sources, {
      name: undefined,
      description: undefined,
      readOnly: false,
      filters: {},
      oneWriter: undefined,
      tlsOnly: false,
      access: {},
      maxConnections: undefined,
    }),
    limits: {},
    metrics: undefined,
    web: undefined,
    lentAccess: {},
    reconnectSeconds: 0,
    tls,
  });
  const env = process.env;
  const web = await startWeb({ at: '127.0.0.1:0', origins: [], tls, name: 'test', env, log: silent, service, watch });
  const tokens = await Tokens.open(env);
  const token = tokens.consoleToken;
  const at = new URL(web.plainAddress).host;
  return {
    at,
    token,
    tokens,
    service,
    web,
    get: (path, init = {}) => {
      const headers = { authorization: `Bearer ${token}`, ...(init.headers as Record<string, string> | undefined) };
      return fetch(`http://${at}${path}`, { ...init, headers });
    },
    close: async () => {
      web.stop();
      await service.stop();
      web.close();
    },
  };
}
