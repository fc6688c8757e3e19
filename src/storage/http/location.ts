/**
 * The address of an object on an HTTP server: an http:// or https:// URL (RFC 3986), with a user
 * and a password for Basic authentication (RFC 7617) if it has them.
 *
 * Passwords, and the query, which holds the signature of a presigned URL, are secrets: messages
 * show {@link HttpLocation.shown}.
 */
import { usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { withoutSecrets } from '../../base/web-address.js';

export interface HttpLocation {
  /** The URL without user, password and fragment. */
  readonly url: string;
  /** The URL for messages: without secrets. */
  readonly shown: string;
  /** The value of the Authorization header that the URL itself asks for. */
  readonly authorization: string | undefined;
}

/** @throws FarbusError if the text is no URL of this kind */
export function parseHttpLocation(text: string): HttpLocation {
  if (!URL.canParse(text)) throw usageError(`${visible(withoutSecrets(text))} is not a URL: check it`);
  const url = new URL(text);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  url.hash = '';
  const isSigned = username !== '' || password !== '';
  return {
    url: url.href,
    shown: shownUrl(url),
    authorization: isSigned ? basic(decoded(username, url), decoded(password, url)) : undefined,
  };
}

/** The value of an Authorization header for Basic authentication. */
export function basic(user: string, password: string): string {
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)))}`;
}

/** A URL without what may be a secret. */
export function shownUrl({ origin, pathname, search }: URL): string {
  return visible(`${origin}${pathname}${search === '' ? '' : '?...'}`);
}

function decoded(part: string, url: URL): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw usageError(`${shownUrl(url)}: the login has a % that begins no byte in hexadecimal: write it as %25`);
  }
}
