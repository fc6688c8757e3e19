/** Which hosts and origins a web server accepts, and how paths are matched to routes. */
import { describe, expect, test } from 'vitest';
import { isOwnHost, offeredProtocols, originOf } from '../../src/web/server/checks.js';
import { matches, type Route } from '../../src/web/server/routes.js';

const rules = { names: new Set(['server.example']), origins: new Set(['http://localhost:5173']) };

describe('host', () => {
  test.each([
    ['127.0.0.1:8080', true],
    ['[::1]:8080', true],
    ['localhost', true],
    ['LOCALHOST:1', true],
    ['10.1.2.3', true],
    ['server.example:443', true],
    ['server.example.', true],
    ['', false],
    [undefined, false],
    ['evil.example', false],
    ['127.0.0.1.evil.example', false],
    ['localhost.evil.example', false],
    ['server.example@evil.example', false],
    ['evil.example:80:80', false],
    ['[::1', false],
    ['[evil]', false],
    ['999.1.1.1', false],
  ])('%s: %s', (host, own) => {
    expect(isOwnHost(host, rules)).toBe(own);
  });
});

describe('origin', () => {
  test.each([
    [undefined, 'own'],
    ['http://127.0.0.1:8080', 'own'],
    ['HTTP://127.0.0.1:8080', 'own'],
    ['http://localhost:5173', 'named'],
    ['https://127.0.0.1:8080', 'foreign'],
    ['http://127.0.0.1', 'foreign'],
    ['http://127.0.0.1:8081', 'foreign'],
    ['null', 'foreign'],
    ['', 'foreign'],
    ['http://127.0.0.1:8080.evil.example', 'foreign'],
  ])('%s is %s', (origin, relation) => {
    expect(originOf(origin, 'http', '127.0.0.1:8080', rules)).toBe(relation);
  });
});

test('subprotocols are a list; one that is too long is none', () => {
  expect(offeredProtocols('nbd, farbus.token.x')).toEqual(['nbd', 'farbus.token.x']);
  expect(offeredProtocols('x'.repeat(3000))).toEqual([]);
});

test('a path is split before it is decoded', () => {
  const route = (path: string): Route => ({ kind: 'get', path, right: 'token', answer: () => ({ json: 1 }) });
  const routes = [route('/nbd/:name'), route('/api/exports/:name/eject'), route('/api/exports')];
  expect(matches(routes, '/nbd/a%2Fb%20c').map(({ name }) => name)).toEqual(['a/b c']);
  expect(matches(routes, '/nbd/').map(({ name }) => name)).toEqual(['']);
  expect(matches(routes, '/nbd/a/b')).toEqual([]);
  expect(matches(routes, '/api/exports/../eject').map(({ name }) => name)).toEqual(['..']);
  expect(matches(routes, '/api/exports')).toHaveLength(1);
  expect(() => matches(routes, '/nbd/%zz')).toThrow('hex digits');
});
