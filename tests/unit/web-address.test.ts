/** Web addresses in texts lose what may be a secret (src/base/web-address.ts). */
import { expect, it } from 'vitest';
import { withoutSecrets } from '../../src/base/web-address.js';

it.each([
  ['https://me:SECRET@host:1/a?sig=SECRET', 'https://host:1/a?...'],
  ['HTTPS://me:SECRET@host/a', 'HTTPS://host/a'],
  ['http://host/a?...: not found', 'http://host/a?...: not found'],
  // No URL, because of the "/" in the password.
  ['https://me:pa/SECRET@host/a', 'https://host/a'],
  ['http://host/a?k=SECRET,bus=ide: bus= is nvme', 'http://host/a?...: bus= is nvme'],
  ['http://host/a?k=SECRET and disk=http://me:SECRET@host/b, twice', 'http://host/a?... and disk=http://host/b, twice'],
  ['http://host:80/me@there, nbd://h/x?tls-psk-file=a', 'http://host:80/me@there, nbd://h/x?tls-psk-file=a'],
  ['nbd+ws://h:1/disk?token=SECRET: refused', 'nbd+ws://h:1/disk?token=...: refused'],
  ['nbd+wss://h/d?tls-hostname=a&token=SE%2eCRET,read-only', 'nbd+wss://h/d?tls-hostname=a&token=...,read-only'],
  ['http://127.0.0.1:8080/#token=SECRET', 'http://127.0.0.1:8080/#token=...'],
])('%s is shown without secrets', (text, shown) => {
  expect(withoutSecrets(text)).toBe(shown);
});
