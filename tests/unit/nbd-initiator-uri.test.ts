/**
 * NBD URIs: the forms of uri.md, refusals, and that every address survives formatting and parsing.
 */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { formatNbdUri, parseNbdUri, type NbdAddress } from '../../src/protocol/nbd/uri.js';

const tcp = (host: string, port: number, exportName: string): NbdAddress => ({
  transport: 'tcp',
  host,
  port,
  exportName,
});
const unix = (path: string, exportName: string): NbdAddress => ({ transport: 'unix', path, exportName });
const webSocket = (port: number, exportName: string): NbdAddress => ({
  transport: 'websocket',
  host: 'host',
  port,
  exportName,
});

describe('parseNbdUri', () => {
  test.each([
    ['nbd://example.com/disk', tcp('example.com', 10809, 'disk')],
    ['nbd+unix:///disk?socket=sock', unix('sock', 'disk')],
    ['nbd://example.com/', tcp('example.com', 10809, '')],
    ['nbd://example.com', tcp('example.com', 10809, '')],
    ['nbd://example.com//disk', tcp('example.com', 10809, '/disk')],
    ['nbd://example.com/hello%20world', tcp('example.com', 10809, 'hello world')],
    ['NBD://127.0.0.1:1234/a/b', tcp('127.0.0.1', 1234, 'a/b')],
    ['nbd://127.0.0.1:0/', tcp('127.0.0.1', 0, '')],
    ['nbd://host:/x', tcp('host', 10809, 'x')],
    ['nbd:///x', tcp('localhost', 10809, 'x')],
    ['nbd://[::1]:99/x', tcp('::1', 99, 'x')],
    ['nbd://[fe80::1%25eth0]/', tcp('fe80::1%eth0', 10809, '')],
    ['nbd://[::ffff:10.0.0.1]', tcp('::ffff:10.0.0.1', 10809, '')],
    ['nbd+unix:///?socket=/tmp/a%20b', unix('/tmp/a b', '')],
    ['nbd+unix://?socket=/tmp/a', unix('/tmp/a', '')],
    ['nbd+unix:///?socket=%00/abstract', unix('\0/abstract', '')],
    ['nbd+unix:///%C3%A4%2F?socket=s=1', unix('s=1', 'ä/')],
    ['nbd://a,[::1]:1/x', { ...tcp('a', 10809, 'x'), others: [{ transport: 'tcp', host: '::1', port: 1 }] }],
    [
      'nbd+unix:///x?socket=a&socket=b&x-detect=0.5&x-failover=unfenced',
      { ...unix('a', 'x'), others: [{ transport: 'unix', path: 'b' }], detectSeconds: 0.5, unfenced: true },
    ],
    ['nbds://host/x', { ...tcp('host', 10809, 'x'), tls: {} }],
    ['nbds://al%40ice@host:1/?tls-psk-file=/k', { ...tcp('host', 1, ''), tls: { pskFile: '/k', username: 'al@ice' } }],
    [
      'nbds+unix:///x?tls-certificates=/a%20b&socket=s&tls-hostname=h&tls-verify-peer=0&tls-type=x509',
      { ...unix('s', 'x'), tls: { certificates: '/a b', hostname: 'h', verifyPeer: false } },
    ],
    ['nbd+ws://host:8080/a%2Fb?token=t', { ...webSocket(8080, 'a/b'), token: 't' }],
    ['nbd+ws://host/x?token-file=/t', { ...webSocket(80, 'x'), tokenFile: '/t' }],
    ['nbd+wss://host/?tls-verify-peer=1', { ...webSocket(443, ''), tls: { verifyPeer: true } }],
    [
      `nbd+wss://host/x?tls-fingerprint=${'AB:'.repeat(31)}AB`,
      { ...webSocket(443, 'x'), tls: { fingerprint: 'ab'.repeat(32) } },
    ],
  ])('%s', (text, address) => {
    expect(parseNbdUri(text)).toEqual(address);
  });

  test.each([
    ['', /not an NBD URI/],
    ['disk.img', /not an NBD URI/],
    ['nbd:host', /not an NBD URI/],
    ['http://host/', /not an NBD URI/],
    ['nbds+unix:///?socket=x', /add tls-hostname=NAME/],
    ['nbd://host/?tls-type=x509', /tls-type is for TLS: write nbds/],
    ['nbd://host/?tls-certificates=/pki', /tls-certificates is for TLS/],
    ['nbds://host/?tls-type=anon', /without proof/],
    ['nbds://host/?tls-type=x', /x509 or psk/],
    ['nbds://host/?tls-type=psk', /add tls-psk-file/],
    ['nbds://host/?tls-type=x509&tls-psk-file=a', /goes with tls-type=psk/],
    ['nbds://host/?tls-psk-file=a&tls-certificates=b', /exclude each other/],
    ['nbds://host/?tls-certificates=', /without a value/],
    ['nbds://host/?tls-verify-peer=yes', /1 or 0/],
    ['nbds://host/?tls-hostname=a&tls-hostname=b', /twice/],
    ['nbdss://host/', /not an NBD URI/],
    ['nbd://host/?token=a', /elsewhere a token follows the name/],
    ['nbd+ws://host/?token=a%20b', /letters, digits/],
    ['nbd+ws://host/?token=a&token-file=b', /exclude each other/],
    ['nbd+ws://me@host/', /no user name/],
    ['nbd+ws://host/?tls-hostname=a', /write nbd\+wss/],
    ['nbd+wss://host/?tls-psk-file=a', /no pre-shared keys/],
    ['nbd+wss://host/?tls-fingerprint=12', /64 hex digits/],
    ['nbd+ws://host/?socket=a', /a socket is for nbd\+unix/],
    ['nbd://user@host/', /user name/],
    ['nbd://host:70000/', /port/],
    ['nbd://host:-1/', /port/],
    ['nbd://host:1x/', /port/],
    ['nbd://::1/', /brackets/],
    ['nbd://[::1/', /brackets/],
    ['nbd://[x]/', /not an IPv6 address/],
    ['nbd://a%20b/', /neither a name nor an address/],
    ['nbd://host/%zz', /% that is not followed/],
    ['nbd://host/%ff', /% that is not followed/],
    ['nbd://host/a%00b', /NUL/],
    ['nbd://host/a#b', /%23/],
    ['nbd://host/a b', /%20/],
    ['nbd://host/a\u0007b', /%20/],
    ['nbd://host/?socket=x', /nbd\+unix/],
    ['nbd://host/?what=x', /unknown part "what"/],
    ['nbd+unix:///x', /which socket/],
    ['nbd+unix:///x?socket=', /which socket/],
    ['nbd+unix:///x?socket', /needs a value/],
    ['nbd+unix:///x?socket=a&socket=a', /a gateway is named twice/],
    ['nbd+unix:///x?socket=a&socket=', /which socket/],
    ['nbd+unix://a,b/x?socket=a', /three slashes/],
    ['nbd://a,a:10809/x', /a gateway is named twice/],
    ['nbd://a,,b/x', /a gateway without a host/],
    ['nbd://a,/x', /a gateway without a host/],
    ['nbd://a,b:x/x', /port/],
    ['nbds://me@a,me@b/x', /the user is given once/],
    [`nbd://${Array.from({ length: 17 }, (_, at) => `h${at}`).join(',')}/x`, /at most 16 gateways/],
    ['nbd://a,b/x?x-failover=yes', /fenced or unfenced/],
    ['nbd://a/x?x-failover=unfenced', /for several gateways/],
    ['nbd://a,b/x?x-detect=0', /from 0.1 to 3600/],
    ['nbd://a,b/x?x-detect=9999', /from 0.1 to 3600/],
    ['nbd://a,b/x?x-detect=1s', /from 0.1 to 3600/],
    ['nbd+unix:///x?socket=a%00b', /NUL/],
    ['nbd+unix://host/x?socket=a', /three slashes/],
    [`nbd://host/${'x'.repeat(4097)}`, /at most 4096 bytes/],
  ])('refuses %s', (text, message) => {
    expect(() => parseNbdUri(text)).toThrow(message);
    expect(() => parseNbdUri(text)).toThrow(FarbusError);
  });

  test('any address is read back unchanged', () => {
    const name = fc.string({ unit: 'binary' }).filter((text) => !text.includes('\0'));
    const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
    const filled = name.filter((text) => text !== '');
    const how = { username: name, hostname: filled, verifyPeer: fc.boolean() };
    const security = fc.oneof(
      fc.constant({}),
      fc.record({ tls: fc.record({ certificates: filled, ...how }) }),
      fc.record({ tls: fc.record({ pskFile: filled, ...how }, { requiredKeys: ['pskFile'] }) }),
    );
    const place = fc.oneof(
      fc.record({ transport: fc.constant('tcp'), host, port: fc.integer({ min: 0, max: 65535 }), exportName: name }),
      fc.record({ transport: fc.constant('unix'), path: name.filter((text) => text !== ''), exportName: name }),
    );
    const address = fc.tuple(place, security).map(([where, tls]) => ({ ...where, ...tls }) as NbdAddress);
    fc.assert(
      fc.property(address, (one) => {
        expect(parseNbdUri(formatNbdUri(one))).toEqual(one);
      }),
    );
  });

  test('any text is an address or a one-line error', () => {
    const hostile = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc
        .string({ unit: fc.constantFrom(...'nbd+unixs:/?#[]@%=&socket.0159az '.split(''), 'tls-', 'psk-file') })
        .map((text) => `nbd:${text}`),
    );
    fc.assert(
      fc.property(hostile, (text) => {
        try {
          parseNbdUri(text);
        } catch (error) {
          expect(error).toBeInstanceOf(FarbusError);
          expect((error as Error).message).not.toMatch(/\p{Cc}/u);
        }
      }),
    );
  });
});
