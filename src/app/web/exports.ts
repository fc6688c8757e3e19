/** The routes of exports: their state, ejection, leases, and NBD (docs/web.md). */
import { FarbusError } from '../../base/errors.js';
import type { Offered } from '../../export/exports.js';
import { WebFailure, type CallerRights, type Route } from '../../web/server/routes.js';
import {
  addressesOf,
  exportStatus,
  moveLease,
  statusOf,
  type ExportStatus,
  type ServeStatus,
} from '../serve/control.js';
import type { ServeService } from '../serve/service.js';

export function exportRoutes(service: ServeService, name: string): Route[] {
  const { server } = service;
  return [
    {
      kind: 'get',
      path: '/api/exports',
      right: 'token',
      answer: async ({ rights }) => {
        const all = await Promise.all([...server.exports.list()].map((one) => visibleTo(rights, one)));
        const exports = all.filter((one) => one !== undefined);
        const { control, lend, reads } = rights;
        // A tab that lends shows its user where the server is reached, and needs no more.
        if (!reads) return { json: { name, listening: addressesOf(service), exports: [], rights: { control, lend } } };
        return { json: { name, ...(await statusOf(service)), exports, rights: { control, lend } } };
      },
    },
    {
      kind: 'post',
      path: '/api/exports/:name/eject',
      right: 'control',
      answer: async ({ name: asked }, { force }) => {
        known(service, asked);
        return { json: { ejected: await service.eject(asked, force === true) } };
      },
    },
    {
      kind: 'post',
      path: '/api/exports/:name/lease',
      right: 'control',
      answer: async ({ name: asked, rights, signal }, { to }) => {
        const offered = known(service, asked);
        await moveLease(service, asked, to, { signal, waitsFor: () => undefined });
        return { json: await visibleTo(rights, offered) };
      },
    },
    {
      kind: 'get',
      path: '/version/:name',
      right: 'token',
      answer: async ({ name: asked, rights, encrypted }) => {
        const { device } = readable(server.exports.find(asked), asked, rights, encrypted);
        return { json: { version: (await device.contentVersion?.()) ?? null } };
      },
    },
    {
      kind: 'stream',
      path: '/nbd/:name',
      protocol: 'nbd',
      right: 'token',
      open: async ({ name: asked, rights, label, encrypted, tlsNames }) => {
        const offered = readable(server.exports.find(asked), asked, rights, encrypted);
        const readOnly = rights.to(offered.name) === 'read';
        const entry = { exportName: offered.name, readOnly, encrypted, tlsNames, token: rights.id, label };
        return ({ stream }) => server.enter(stream, entry);
      },
    },
  ];
}

/** The state of a server without exports, that of a site: the page asks for it first. */
export function noExportsRoute(name: string): Route {
  const started = Date.now();
  return {
    kind: 'get',
    path: '/api/exports',
    right: 'token',
    answer: ({ rights }) => {
      if (!rights.reads) throw new WebFailure(403, 'this server takes no lent files');
      const status: ServeStatus = {
        pid: process.pid,
        uptime: Math.round((Date.now() - started) / 1000),
        listening: [],
        connections: { open: 0, accepted: 0, refused: 0 },
        memory: process.memoryUsage.rss(),
        exports: [],
      };
      return { json: { name, ...status, rights: { control: rights.control, lend: false } } };
    },
  };
}

/** The export, if a client may read it. */
function readable(offered: Offered | undefined, asked: string, rights: CallerRights, encrypted: boolean): Offered {
  if (!offered || !rights.to(offered.name)) throw noExport(asked);
  if (offered.tlsOnly && !encrypted) throw new FarbusError('this export is served over TLS only');
  return offered;
}

function known(service: ServeService, name: string): Offered {
  const offered = [...service.server.exports.list()].find((one) => one.name === name);
  if (!offered) throw noExport(name);
  return offered;
}

function noExport(name: string): WebFailure {
  return new WebFailure(404, `there is no export ${JSON.stringify(name.slice(0, 100))}`);
}

interface VisibleExport extends ExportStatus {
  /** True if the client's token may write it. */
  readonly mayWrite: boolean;
}

/** An export as a token may see it; undefined if it may not. */
async function visibleTo(rights: CallerRights, offered: Offered): Promise<VisibleExport | undefined> {
  const right = rights.to(offered.name);
  if (!right) return undefined;
  const { route, lock, ...status } = await exportStatus(offered);
  // Addresses and names of other clients and of gateways are for the owner of the server only.
  const own = rights.control ? { ...(route !== undefined && { route }), ...(lock && { lock }) } : { clients: [] };
  return { ...status, ...own, mayWrite: right === 'write' && !status.readOnly };
}
