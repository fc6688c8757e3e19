/**
 * Which facets (src/block/direct.ts) the devices have that the commands open and that a server
 * gives to its clients.
 */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { silent, ThrottledLogger } from '../../src/base/log.js';
import { BlockError } from '../../src/block/errors.js';
import { Exports, type ExportOptions } from '../../src/export/exports.js';
import { ConnectionView } from '../../src/export/view.js';
import { openPath } from '../../src/storage/open.node.js';
import { hasKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';

const size = 4 << 20;

function image(): string {
  const path = tempPath('disk.img');
  writeFileSync(
    path,
    Uint8Array.from({ length: size }, (_, at) => (at >> 9) & 0xff),
  );
  return path;
}

const facets = { both: { direct: hasKoffi, files: hasKoffi }, direct: { direct: hasKoffi, files: false } };
const none = { direct: false, files: false };

describe('the facets of an opened source', () => {
  it.each([
    ['', facets.both],
    [',read-only', facets.both],
    [',offset=1M,size=1M', facets.both],
    [',rate=10M', facets.direct],
    [',readahead', none],
  ])('file%s', async (filters, { direct, files }) => {
    const device = await openSource(parseSource(image() + filters), { log: silent });
    expect([device.direct !== undefined, device.files !== undefined]).toEqual([direct, files]);
    await device.close();
  });
});

describe('the facets of an export', () => {
  async function viewsOf(options: Partial<ExportOptions>) {
    const exports = new Exports();
    exports.add({ name: 'disk', device: await openPath(image()), ...options });
    const views = ['1', '2'].map((id) => new ConnectionView(exports, id, 'test', new ThrottledLogger(silent)));
    return { exports, views, found: views.map((view) => view.find('disk')!) };
  }

  it.each([
    ['without options', {}, facets.both],
    ['with metrics', { metered: true }, facets.both],
    ['with one writer', { oneWriter: 'read-only' }, facets.both],
    ['with a rate', { rate: 1 << 20 }, facets.direct],
  ] as const)('%s', async (_, options, { direct, files }) => {
    const { exports, found } = await viewsOf(options);
    for (const { device } of found) {
      expect([device.direct !== undefined, device.files !== undefined]).toEqual([direct, files]);
    }
    await exports.close();
  });

  it('synchronous writes of a client that has not the lease are refused', async () => {
    const { exports, found } = await viewsOf({ oneWriter: 'read-only' });
    const [writer, other] = found;
    const connection = { fence: () => Promise.resolve() };
    writer!.entered(connection, true);
    other!.entered(connection, true);
    const page = new Uint8Array(4096);
    if (hasKoffi) {
      writer!.device.direct!.write(0, page);
      expect(() => other!.device.direct!.write(0, page)).toThrow(BlockError);
      expect(other!.device.direct!.read(0, page)).toBe(true);
    }
    await exports.close();
  });

  it('a rate counts synchronous reads, and declines them when its bytes are used up', async () => {
    const { exports, found } = await viewsOf({ rate: 1 << 20 });
    const { direct } = found[0]!.device;
    const page = new Uint8Array(65536);
    let read = 0;
    while (hasKoffi && direct!.read(0, page)) expect((read += page.length)).toBeLessThan(1 << 20);
    await exports.close();
  });
});
