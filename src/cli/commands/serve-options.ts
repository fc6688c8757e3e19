/** The options of `farbus serve`. */
import type { Options } from '../table.js';
import { filterOptionsOf } from '../topics.js';

export const options = {
  listen: {
    value: 'URI',
    multiple: true,
    brief: 'where to listen (default nbd://127.0.0.1:10809)',
    about: 'where to listen, nbd://127.0.0.1:10809 by default; may be given several times:',
    forms: [
      ['nbd://HOST[:PORT]', 'TCP; port 0 takes a free one'],
      ['nbd+unix:///?socket=PATH', 'a unix socket'],
      ['aoe:SHELF.SLOT@SEGMENT', 'AoE on an Ethernet segment; each further export takes the next slot'],
    ],
  },
  config: {
    value: 'FILE',
    brief: 'exports, listeners and rules of access, in YAML or JSON',
    about: 'exports, listeners and rules of access, in YAML or JSON (docs/serve.md)',
  },
  allow: {
    value: 'NETWORK',
    multiple: true,
    brief: 'only clients from there: 192.168.1.0/24, fd00::/8, unix',
    about: 'only clients from there (192.168.1.0/24, fd00::/8, unix); may be given several times',
  },
  'max-connections': {
    value: 'N',
    about: 'most connections at once; further ones are closed as they come (default 4096; none: no limit)',
  },
  'max-per-address': {
    value: 'N',
    about: 'most connections from one address or one IPv6 network of 64 bits (default 1024; none: no limit)',
  },
  'max-handshakes': {
    value: 'N',
    about:
      'most connections that have not chosen an export; the oldest is closed for a new one (default 1000; none: no limit)',
  },
  'one-writer': {
    value: 'MODE',
    alone: 'read-only',
    choices: ['read-only', 'refuse'],
    brief: 'only one connection at a time may write',
    about: 'one connection writes at a time; others get the export read-only, or are refused with =refuse',
  },
  metrics: {
    value: '[HOST:]PORT',
    brief: 'counts for Prometheus at http://HOST:PORT/metrics',
    about: 'serve counts for Prometheus at http://HOST:PORT/metrics; HOST is 127.0.0.1 by default',
  },
  web: {
    value: '[HOST:]PORT',
    brief: 'a console page, and exports for browsers, at http://HOST:PORT/',
    about:
      'serve a console page, and the exports by NBD over WebSocket, at http://HOST:PORT/; HOST is 127.0.0.1 by default. ' +
      'Prints the address with the token that opens it. With another HOST it uses TLS: the certificate of ' +
      '--tls-certificates, or a generated one',
  },
  'web-origin': {
    value: 'ORIGIN',
    multiple: true,
    about:
      'pages of this origin may use the WebSockets too, for example http://localhost:5173; may be given several times',
  },
  'log-format': {
    value: 'FORMAT',
    default: 'text',
    choices: ['text', 'json'],
    about: 'text; or json: an object with time, level and message for each line',
  },
  reconnect: {
    value: 'SECONDS',
    about: 'how long a source on another computer may be away before clients get errors (default 60)',
  },
  trace: {
    value: 'FILE',
    alone: '',
    about:
      'write each step of every request with its time, on stderr or to FILE, under the number that the trace of the ' +
      'client shows (NBD cookie, AoE tag)',
  },
  detach: {
    short: 'd',
    about: 'run in the background: print the name and the addresses when the server is ready, and leave it running',
  },
  'server-name': {
    value: 'NAME',
    about: 'the name of this server for farbus ps, status and stop; by default server, server-2 and so on',
  },
  name: { value: 'NAME', about: 'name of the export, if there is one SOURCE' },
  description: { value: 'TEXT', about: 'description of the export for people, if there is one SOURCE' },
  'tls-certificates': {
    value: 'FOLDER',
    brief: 'encrypt with the certificate in this folder',
    about: 'encrypt with server-cert.pem and server-key.pem of this folder',
  },
  'tls-psk': {
    value: 'FILE',
    about: 'encrypt with pre-shared keys: lines of USER:KEY, the key in hex, as psktool makes them',
  },
  'tls-verify-peer': {
    brief: 'accept only clients with a certificate',
    about: "accept only clients with a certificate that the folder's ca-cert.pem signed",
  },
  tls: {
    value: 'MODE',
    completes: ['require', 'on', 'off'],
    about:
      'require: clients must use TLS, the default with certificates or keys; on: they may, and an attacker in between ' +
      'can talk them out of it; off',
  },
  json: {
    brief: 'print the addresses as JSON',
    about: 'print {"listening":[...],"exports":[...]} in one line instead of the addresses',
  },
  ...filterOptionsOf(),
} as const satisfies Options;
