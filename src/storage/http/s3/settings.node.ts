/**
 * Where an S3 service is and who asks: the environment and the files of AWS's own tools
 * (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL,
 * AWS_PROFILE; ~/.aws/credentials and ~/.aws/config).
 *
 * Left out: logins by web identity, SSO, instance metadata and processes. `aws configure
 * export-credentials --format env` turns them into variables.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, failed } from '../../../base/errors.js';

export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface S3Settings {
  /** The service's URL; undefined: AWS. */
  readonly endpoint: string | undefined;
  readonly region: string;
  /** Undefined: ask without a signature, which public buckets allow. */
  readonly keys: S3Keys | undefined;
}

type Section = ReadonlyMap<string, string>;

export async function s3Settings(env: NodeJS.ProcessEnv): Promise<S3Settings> {
  const profile = env['AWS_PROFILE'] || env['AWS_DEFAULT_PROFILE'] || 'default';
  const folder = join(env['HOME'] || homedir(), '.aws');
  const config = await readIni(env['AWS_CONFIG_FILE'] || join(folder, 'config'));
  const credentials = await readIni(env['AWS_SHARED_CREDENTIALS_FILE'] || join(folder, 'credentials'));
  const section = config.get(profile === 'default' ? 'default' : `profile ${profile}`);
  return {
    endpoint: env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL'] || section?.get('endpoint_url'),
    region: env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || section?.get('region') || 'us-east-1',
    keys: keysOfEnvironment(env) ?? keysOf(credentials.get(profile)) ?? keysOf(section),
  };
}

function keysOfEnvironment(env: NodeJS.ProcessEnv): S3Keys | undefined {
  return keysFrom(env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY'], env['AWS_SESSION_TOKEN']);
}

function keysOf(section: Section | undefined): S3Keys | undefined {
  const get = (name: string): string | undefined => section?.get(name);
  return keysFrom(get('aws_access_key_id'), get('aws_secret_access_key'), get('aws_session_token'));
}

function keysFrom(accessKeyId?: string, secretAccessKey?: string, sessionToken?: string): S3Keys | undefined {
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) };
}

/** The sections of an INI file; none if there is no file. */
async function readIni(path: string): Promise<ReadonlyMap<string, Section>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return new Map();
    throw failed(`cannot read ${path}`, error);
  }
  const sections = new Map<string, Map<string, string>>();
  let section = new Map<string, string>();
  for (const line of text.split('\n')) {
    const name = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line)?.[1];
    const [, key, value] = /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name !== undefined) sections.set(name, (section = new Map<string, string>()));
    else if (key !== undefined) section.set(key.toLowerCase(), value!);
  }
  return sections;
}
