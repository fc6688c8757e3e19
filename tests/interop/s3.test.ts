/**
 * Objects of an S3 service as disks (src/storage/http/s3), with s3rver as the service. It checks
 * the id of a key, but not the signature: radosgw.test.ts has a service that does.
 */
import { AwsV4Signer } from 'aws4fetch';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import S3rver from 's3rver';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { putS3, withVariables } from '../support/s3.js';
import { tempFolder } from '../support/temp.js';
import { farbus } from './farbus.js';

/** The keys that s3rver accepts. */
const keys = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const content = randomBytes(1_000_000);
const folder = tempFolder();

describe('an object of an S3 service', () => {
  let restore: () => void = () => undefined;
  const service = new S3rver({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory: join(folder, 's3'),
    configureBuckets: [{ name: 'images' }],
  });
  let endpoint = '';

  beforeAll(async () => {
    mkdirSync(join(folder, 's3'));
    const { port } = await service.run();
    endpoint = `http://127.0.0.1:${port}`;
    restore = withVariables({ AWS_ENDPOINT_URL: endpoint, HOME: folder });
    await putS3(`${endpoint}/images/golden%20disk.img`, keys, content);
  });

  afterAll(async () => {
    restore();
    await service.close();
  });

  const source = 's3://images/golden disk.img';

  it('is read with the keys of the environment', async () => {
    const undo = withVariables({
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    });
    const to = join(folder, 'copy.img');
    const { code, stderr } = await farbus('copy', source, to, '--verify', '--quiet');
    undo();
    expect([code, stderr]).toEqual([0, '']);
    expect(readFileSync(to).equals(content)).toBe(true);
  });

  it('is read with the keys of ~/.aws, and refused with others, which are never shown', async () => {
    mkdirSync(join(folder, '.aws'));
    const write = (id: string): void =>
      writeFileSync(
        join(folder, '.aws/credentials'),
        `[default]\naws_access_key_id = ${id}\naws_secret_access_key=${keys.secretAccessKey}\n`,
      );
    write(keys.accessKeyId);
    expect((await farbus('info', source, '--json')).stdout).toMatch(/1000000/);
    write('STRANGER');
    const { code, stderr } = await farbus('info', source);
    expect([code, stderr]).toEqual([1, `farbus: cannot open ${source}: access denied (status 403)\n`]);
  });

  it('is read by a presigned address, which is never shown', async () => {
    const url = `${endpoint}/images/golden%20disk.img?X-Amz-Expires=60`;
    const { url: signed } = await new AwsV4Signer({
      url,
      service: 's3',
      region: 'us-east-1',
      signQuery: true,
      ...keys,
    }).sign();
    const found = await farbus('info', signed.href);
    expect(found.stderr).toBe('');
    expect(found.code).toBe(0);
    signed.searchParams.set('X-Amz-Credential', 'feedbeef/20260101/us-east-1/s3/aws4_request');
    const refused = await farbus('info', signed.href);
    expect(refused.code).toBe(1);
    expect(refused.stdout + refused.stderr).not.toMatch(/feedbeef/);
  });
});
