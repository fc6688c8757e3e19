/**
 * Objects of an S3 service as disks (src/storage/http/s3), with s3rver as the service. It checks
 * the id of a key, but not the signature.
 */
import { AwsV4Signer } from 'aws4fetch';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import S3rver from 's3rver';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tempFolder } from '../support/temp.js';
import { farbus } from './farbus.js';

/** The keys that s3rver accepts. */
const keys = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const content = randomBytes(1_000_000);
const folder = tempFolder();
const environment = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_ENDPOINT_URL', 'HOME'] as const;

describe('an object of an S3 service', () => {
  const before = environment.map((name) => process.env[name]);
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
    process.env['AWS_ENDPOINT_URL'] = endpoint;
    process.env['HOME'] = folder;
    const url = `${endpoint}/images/golden%20disk.img`;
    const signer = new AwsV4Signer({ method: 'PUT', url, body: content, service: 's3', region: 'us-east-1', ...keys });
    const { headers, method } = await signer.sign();
    expect((await fetch(url, { method, headers, body: content })).status).toBe(200);
  });

  afterAll(async () => {
    environment.forEach((name, index) => {
      if (before[index] === undefined) delete process.env[name];
      else process.env[name] = before[index];
    });
    await service.close();
  });

  const source = 's3://images/golden disk.img';

  it('is read with the keys of the environment', async () => {
    process.env['AWS_ACCESS_KEY_ID'] = keys.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = keys.secretAccessKey;
    const to = join(folder, 'copy.img');
    const { code, stderr } = await farbus('copy', source, to, '--verify', '--quiet');
    expect([code, stderr]).toEqual([0, '']);
    expect(readFileSync(to).equals(content)).toBe(true);
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
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
