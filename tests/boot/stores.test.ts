/**
 * An unmodified Debian boots from an image in a bucket, with a cache and an overlay, and from an
 * image of a Ceph cluster, and writes there. Ceph's gateway for S3 is the bucket's service.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { farbus } from '../interop/farbus.js';
import { Ceph } from '../support/ceph.js';
import { bootMs, checkDisk, makeDisk, useDisk } from '../support/guest-disk.js';
import { putS3, withVariables } from '../support/s3.js';
import { tempFolder } from '../support/temp.js';

const keys = { accessKeyId: 'GATEWAYUSER', secretAccessKey: 'SECRET' };

describe('a Debian', () => {
  const folder = tempFolder();
  let ceph: Ceph | undefined;
  let golden = '';
  let restore: () => void = () => undefined;

  beforeAll(async () => {
    golden = await makeDisk(folder);
    ceph = await Ceph.start();
    const endpoint = await ceph.startObjectGateway(keys);
    restore = withVariables({
      AWS_ENDPOINT_URL: endpoint,
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    });
    await putS3(`${endpoint}/images`, keys, Buffer.alloc(0));
    await putS3(`${endpoint}/images/golden.img`, keys, readFileSync(golden));
  }, 600_000);

  afterAll(() => {
    restore();
    ceph?.stop();
  });

  it(
    "boots from a bucket's image with a cache and an overlay",
    async () => {
      const [cache, overlay, whole] = ['cache', 'overlay', 'whole.img'].map((name) => join(folder, name));
      await useDisk(`s3://images/golden.img,cache=${cache},overlay=${overlay},bus=ahci`);
      // The overlay has the changes only, and the bucket has none of them.
      expect(statSync(overlay!).blocks * 512).toBeLessThan(64 << 20);
      const copied = await farbus('copy', `s3://images/golden.img,overlay=${overlay}`, whole!, '--quiet');
      expect([copied.code, copied.stderr]).toEqual([0, '']);
      checkDisk(whole!);
      const again = join(folder, 'again.img');
      expect(await farbus('copy', 's3://images/golden.img', again, '--quiet')).toMatchObject({ code: 0, stderr: '' });
      execFileSync('cmp', [golden, again]);
    },
    bootMs + 300_000,
  );

  it(
    'boots from an image of a Ceph cluster, and writes there',
    async () => {
      const image = `rbd:rbd/debian?conf=${ceph!.conf}`;
      ceph!.run('rbd', 'create', 'debian', '--size', '512M');
      expect(await farbus('copy', golden, image, '--quiet')).toMatchObject({ code: 0, stderr: '' });
      await useDisk(`${image},bus=ahci`);
      const exported = join(folder, 'exported.img');
      ceph!.run('rbd', 'export', 'debian', exported, '--no-progress');
      checkDisk(exported);
    },
    bootMs + 300_000,
  );
});
