/**
 * Opens `s3://BUCKET/KEY`: an object of an S3 service by its HTTP interface, read by ranges. Each
 * request is signed by AWS Signature Version 4.
 */
import { AwsV4Signer } from 'aws4fetch';
import { usageError } from '../../../base/errors.js';
import { visible } from '../../../base/printable.js';
import type { HttpDisk } from '../device.js';
import { openObject, type Authorize, type OpenHttpOptions } from '../open.js';
import { nodeSender } from '../send.node.js';
import { s3Settings, type S3Settings } from './settings.node.js';

/** @throws FarbusError if the object cannot be read */
export async function openS3(text: string, options: OpenHttpOptions = {}): Promise<HttpDisk> {
  const [, bucket, key] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\/([^?#]+)$/s.exec(text) ?? [];
  if (bucket === undefined || key === undefined) throw usageError(`${visible(text)}: expected s3://BUCKET/KEY`);
  const settings = await s3Settings(process.env);
  const location = { url: urlOf(settings, bucket, key), shown: visible(text), authorization: undefined };
  return await openObject(location, await nodeSender(location.url), options, signer(settings));
}

/** Path-style at an endpoint of one's own, where host names of buckets seldom exist. */
function urlOf({ endpoint, region }: S3Settings, bucket: string, key: string): string {
  const path = key.split('/').map(encodeURIComponent).join('/');
  if (endpoint === undefined) return `https://${bucket}.s3.${region}.amazonaws.com/${path}`;
  if (!URL.canParse(endpoint)) throw usageError(`AWS_ENDPOINT_URL is no URL: ${visible(endpoint)}`);
  return `${endpoint.replace(/\/+$/, '')}/${bucket}/${path}`;
}

function signer({ keys, region }: S3Settings): Authorize | undefined {
  if (!keys) return undefined;
  // Keeps the derived key of the day.
  const cache = new Map<string, ArrayBuffer>();
  return async (url, headers) => {
    const request = await new AwsV4Signer({ url, headers, service: 's3', region, cache, ...keys }).sign();
    return Object.fromEntries(request.headers);
  };
}
