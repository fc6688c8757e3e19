/** Starts the web server of `farbus serve --web` and `farbus up --web` (docs/web.md). */
import { X509Certificate } from 'node:crypto';
import { hostname, networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FarbusError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Exports } from '../../export/exports.js';
import { CommandWatch } from '../../export/watch.js';
import { makeCertificates } from '../../network/certificates/folder.node.js';
import { hostPort } from '../../network/socket.node.js';
import { serverCertificates } from '../../network/tls-files.node.js';
import type { HostRules } from '../../web/server/checks.js';
import { Page } from '../../web/server/page.node.js';
import type { Route } from '../../web/server/routes.js';
import { WebServer, type WebTls } from '../../web/server/server.node.js';
import { tokenFolder, Tokens } from '../../web/server/tokens.node.js';
import type { TlsValues } from '../serve/tls.js';
import { isLoopback, parseOrigin, parseWeb } from './address.js';
import { computerRoutes } from './computers.js';
import { eventRoutes } from './events.js';
import { exportRoutes, noExportsRoute } from './exports.js';
import { GuestFolder } from './guest-files.js';
import { guestRoutes, withEngine } from './guest-routes.js';
import { lendRoute } from './lend.js';
import type { ServeService } from '../serve/service.js';

/** Where the build puts the page. */
const pageFolder = fileURLToPath(new URL('../../../dist/web/page', import.meta.url));
/** Validity of a generated certificate, in days. */
const certificateDays = 825;

export interface WebOptions {
  /** `[HOST:]PORT`. */
  readonly at: string;
  /** Origins of other pages that may use the WebSockets. */
  readonly origins: readonly string[];
  readonly tls: TlsValues;
  /** The name of this process. */
  readonly name: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  /** Undefined without exports: for a site. */
  readonly service?: ServeService | undefined;
  readonly watch?: CommandWatch | undefined;
  /** Further routes. */
  readonly routes?: readonly Route[];
}

/** A running web server. */
export interface Web {
  /** The address of the page, with the console token. */
  readonly address: string;
  /** The address without a token. */
  readonly plainAddress: string;
  /** SHA-256 of the generated certificate; undefined with the user's, or without TLS. */
  readonly fingerprint: string | undefined;
  /** Reads the user's certificate again. Rejects with a FarbusError if it cannot be used. */
  renew(tls: TlsValues): Promise<void>;
  /** Stops accepting. */
  stop(): void;
  /** Ends all connections. */
  close(): void;
}

/** Starts the server. Rejects with a FarbusError. */
export async function startWeb(options: WebOptions): Promise<Web> {
  const { at, origins, env, log, name, service, watch = new CommandWatch(), routes = [] } = options;
  const { host, port } = parseWeb(at);
  const tokens = await Tokens.open(env);
  const { tls, fingerprint } = await encryption(host, options.tls, env);
  const exports = service?.server.exports ?? new Exports();
  const guest = new GuestFolder(log);
  const server = await WebServer.start({
    host,
    port,
    tls,
    tokens,
    log,
    rules: { names: namesOf(host, tls), origins: new Set(origins.map(parseOrigin)) } satisfies HostRules,
    page: withEngine(new Page(pageFolder), guest),
    routes: [
      ...(service ? [...exportRoutes(service, name), lendRoute(service)] : [noExportsRoute(name)]),
      ...eventRoutes(exports, watch),
      ...computerRoutes(env, (asked) => addressOf(service, asked)),
      ...guestRoutes(guest),
      ...routes,
    ],
  });
  const plainAddress = `${tls ? 'https' : 'http'}://${hostPort(shownHost(host), server.port)}/`;
  return {
    // The token can be renewed.
    get address() {
      return `${plainAddress}#token=${tokens.consoleToken}`;
    },
    plainAddress,
    fingerprint,
    renew: async (values) => {
      const { tls: renewed } = await encryption(host, values, env);
      if (renewed) server.renew(renewed);
    },
    stop: () => server.stop(),
    close: () => server.close(),
  };
}

interface Encryption {
  readonly tls: WebTls | undefined;
  readonly fingerprint: string | undefined;
}

/** The user's certificate; else a generated one, unless only this computer reaches the server. */
async function encryption(host: string, values: TlsValues, env: NodeJS.ProcessEnv): Promise<Encryption> {
  const { 'tls-certificates': given, 'tls-verify-peer': verifyPeer, tls: mode } = values;
  if (given !== undefined && mode !== 'off') return { tls: await pairIn(given, verifyPeer), fingerprint: undefined };
  if (isLoopback(host)) return { tls: undefined, fingerprint: undefined };
  const tls = await generated(host, join(tokenFolder(env), 'tls'));
  return { tls, fingerprint: new X509Certificate(tls.certificate).fingerprint256 };
}

async function pairIn(folder: string, verifyPeer: boolean): Promise<WebTls> {
  const credentials = await serverCertificates(folder, verifyPeer);
  if (credentials.kind !== 'x509' || !credentials.own)
    throw new FarbusError(`${folder} has no certificate of a server`);
  const { own, ca, crl } = credentials;
  return { ...own, ca, crl };
}

/** The generated certificate. It is kept, so that its fingerprint stays, until it expires. */
async function generated(host: string, folder: string): Promise<WebTls> {
  const kept = await newestIn(folder);
  if (kept) return kept;
  const own = ownAddresses().map(({ address }) => address);
  const hosts = isWildcard(host) ? [hostname(), ...own.filter((one) => !one.includes('%'))] : [host];
  // A folder is never written twice: the one of an expired certificate stays beside the new one.
  const dated = `${folder}-${new Date().toISOString().slice(0, 10)}`;
  const into = [folder, dated].find((one) => !existsSync(one)) ?? `${dated}-${Date.now()}`;
  await makeCertificates(into, {
    hosts: hosts.filter((one) => !/^fe80:/i.test(one)),
    clients: [],
    days: certificateDays,
  });
  return pairIn(into, false);
}

/** The newest generated certificate that is valid: when one expires, another folder is made. */
async function newestIn(folder: string): Promise<WebTls | undefined> {
  const named = basename(folder);
  const names = await readdir(dirname(folder)).catch(() => []);
  const own = names.filter((name) => name === named || name.startsWith(`${named}-`));
  const all = await Promise.all(own.map((name) => pairIn(join(dirname(folder), name), false).catch(() => undefined)));
  const times = ({ certificate }: WebTls): { from: number; to: number } => {
    const { validFrom, validTo } = new X509Certificate(certificate);
    return { from: Date.parse(validFrom), to: Date.parse(validTo) };
  };
  const valid = all.filter((one) => one !== undefined).filter((one) => times(one).to > Date.now());
  return valid.sort((a, b) => times(b).from - times(a).from)[0];
}

/** This computer's addresses; none if it may not ask for them (a sandbox without netlink). */
function ownAddresses(): NetworkInterfaceInfo[] {
  try {
    return Object.values(networkInterfaces()).flatMap((all = []) => all);
  } catch {
    return [];
  }
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** The host in the printed address. */
function shownHost(host: string): string {
  if (!isWildcard(host)) return host;
  return ownAddresses().find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? hostname();
}

/** Names by which clients may call the server. */
function namesOf(host: string, tls: WebTls | undefined): Set<string> {
  const names = [host, hostname()];
  if (tls) {
    const { subjectAltName = '' } = new X509Certificate(tls.certificate);
    for (const [, name] of subjectAltName.matchAll(/(?:^|, )DNS:([^,"]+)/g)) names.push(name!);
  }
  return new Set(names.map((one) => one.toLowerCase()));
}

/** The NBD address of an export for a computer of this host. */
function addressOf(service: ServeService | undefined, name: string): string | undefined {
  if (!service || ![...service.server.exports.list()].some((one) => one.name === name)) return undefined;
  const [at] = service.listening;
  return at && service.uri(at, name);
}
