/**
 * Objects of a Ceph cluster's gateway for S3 (radosgw), which checks each signature. s3.test.ts has
 * a service that starts faster and checks less.
 */
import { AwsV4Signer } from 'aws4fetch';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ceph } from '../support/ceph.js';
import { putS3, withVariables } from '../support/s3.js';
import { tempFolder } from '../support/temp.js';
import { farbus } from './farbus.js';

const keys = { accessKeyId: 'GATEWAYUSER', secretAccessKey: 'a/secret+key/of=Ceph' };
const content = randomBytes(3_000_000);
/** Names with what URLs, signatures and paths treat in special ways. */
const names = [
  'plain.img',
  'golden disk.img',
  'images/2026/a+b&c=d.img',
  "it's (new)!*~.img",
  'größe-日本.img',
  'a//b.img',
];

describe("an object of Ceph's gateway", () => {
  const folder = tempFolder();
  let ceph: Ceph | undefined;
  let endpoint = '';
  let restore: () => void = () => undefined;

  const objectUrl = (name: string): string => `${endpoint}/images/${name.split('/').map(encodeURIComponent).join('/')}`;

  beforeAll(async () => {
    ceph = await Ceph.start();
    endpoint = await ceph.startObjectGateway(keys);
    restore = withVariables({
      AWS_ENDPOINT_URL: endpoint,
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
      HOME: folder,
    });
    await putS3(`${endpoint}/images`, keys, Buffer.alloc(0));
    for (const name of names) await putS3(objectUrl(name), keys, content);
    await putS3(objectUrl('public.img'), keys, content, { 'x-amz-acl': 'public-read' });
  }, 300_000);

  afterAll(() => {
    restore();
    ceph?.stop();
  });

  it.each(names)('is read with a signature that the gateway accepts: %s', async (name) => {
    const to = join(folder, `${names.indexOf(name)}.img`);
    const { code, stderr } = await farbus('copy', `s3://images/${name}`, to, '--verify', '--quiet');
    expect([code, stderr]).toEqual([0, '']);
    expect(readFileSync(to).equals(content)).toBe(true);
  });

  it('is refused with a wrong secret, and neither key is shown', async () => {
    const undo = withVariables({ AWS_SECRET_ACCESS_KEY: 'another-secret' });
    const { code, stderr } = await farbus('info', 's3://images/plain.img');
    undo();
    expect([code, stderr]).toEqual([1, 'farbus: cannot open s3://images/plain.img: access denied (status 403)\n']);
  });

  it('is read without keys if it is public, and refused if it is not', async () => {
    const undo = withVariables({ AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' });
    const open = await farbus('info', 's3://images/public.img', '--json');
    const closed = await farbus('info', 's3://images/plain.img');
    undo();
    expect([open.code, open.stderr, closed.code]).toEqual([0, '', 1]);
  });

  it('is read by a presigned address, until its signature is changed', async () => {
    const url = `${objectUrl('golden disk.img')}?X-Amz-Expires=600`;
    const signer = new AwsV4Signer({ url, service: 's3', region: 'us-east-1', signQuery: true, ...keys });
    const { url: signed } = await signer.sign();
    expect(await farbus('info', signed.href)).toMatchObject({ code: 0, stderr: '' });
    const signature = signed.searchParams.get('X-Amz-Signature')!;
    signed.searchParams.set(
      'X-Amz-Signature',
      signature.replace(/^./, (digit) => (digit === '0' ? '1' : '0')),
    );
    const refused = await farbus('info', signed.href);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('access denied (status 403)')]);
    expect(refused.stderr).not.toContain(signature.slice(1));
  });

  it('that is replaced while it is used is never mixed with the new one', async () => {
    const { openSource } = await import('../../src/app/sources.js');
    const { parseSource } = await import('../../src/app/source-text.js');
    const device = await openSource(parseSource('s3://images/plain.img'), { log: { log: () => undefined } });
    await device.read(0, Buffer.alloc(4096));
    await putS3(objectUrl('plain.img'), keys, Buffer.from(content).reverse());
    await expect(device.read(2_000_000, Buffer.alloc(4096))).rejects.toThrow(/has changed since it was opened/);
    await device.close();
  });
});
