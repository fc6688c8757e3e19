/** BlockDevice over nbd+ws://, with the server that `farbus serve --web` composes. */
import { openSource } from '../../src/app/sources.js';
import { parseSource } from '../../src/app/source-text.js';
import { silent } from '../../src/base/log.js';
import { webService } from '../support/web-service.js';
import { conformance, type Opened } from './suite.js';

async function open(readOnly: boolean): Promise<Opened> {
  const server = await webService('disk=memory:4M');
  const { token } = await server.tokens.make(['disk'], !readOnly, 3600);
  const device = await openSource(parseSource(`nbd+ws://${server.at}/disk?token=${token}`), { log: silent });
  return { device, cleanup: () => server.close() };
}

conformance('NBD over a WebSocket', () => open(false), { openReadOnly: () => open(true) });
