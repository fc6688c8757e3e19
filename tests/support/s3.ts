/** Puts objects into an S3 service, and sets the environment for AWS's tools. */
import { AwsV4Signer } from 'aws4fetch';
import type { S3Keys } from '../../src/storage/http/s3/settings.node.js';

/** Sends a request that makes a bucket or an object. */
export async function putS3(url: string, keys: S3Keys, body: Buffer, headers: Record<string, string> = {}) {
  // Its type takes no bytes over a shared buffer, which a Buffer could be.
  const bytes = new Uint8Array(body);
  const signer = new AwsV4Signer({
    method: 'PUT',
    url,
    headers,
    body: bytes,
    service: 's3',
    region: 'us-east-1',
    ...keys,
  });
  const signed = await signer.sign();
  const answer = await fetch(signed.url, { method: 'PUT', headers: signed.headers, body: bytes });
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}: ${await answer.text()}`);
}

/** Sets variables of the environment; returns a function that restores them. */
export function withVariables(values: Readonly<Record<string, string>>): () => void {
  const before = Object.keys(values).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, values);
  return () => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}
