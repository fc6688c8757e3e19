/**
 * Parses Debian's control files: stanzas of "Field: value" lines, as in Packages and InRelease.
 *
 * Specification: Debian Policy 5.1, and the repository format in
 * wiki.debian.org/DebianRepository/Format ([REPO]).
 *
 * Left out: comments, which neither of these files has.
 */

/**
 * One stanza. Field names are in lower case; lines of a long value are joined with "\n", without
 * their indent.
 */
export type Stanza = ReadonlyMap<string, string>;

/** Parses the first stanza of `text`. Malformed lines are ignored. */
export function parseStanza(text: string): Stanza {
  const fields = new Map<string, string>();
  let field: string | undefined;
  for (const line of text.split('\n')) {
    if (line.trim() === '') {
      if (fields.size > 0) break;
      continue;
    }
    const start = /^([!-,.-9;-~][!-9;-~]*):(.*)$/.exec(line);
    if (start !== null) {
      field = start[1]!.toLowerCase();
      fields.set(field, start[2]!.trim());
    } else if (/^[ \t]/.test(line) && field !== undefined) {
      fields.set(field, `${fields.get(field)!}\n${line.trim()}`);
    }
  }
  return fields;
}

/**
 * Finds the stanza of a package in a Packages file, or undefined. A suite has one version of a
 * package per architecture, so the first match is the right one.
 */
export function findPackage(packages: string, name: string): Stanza | undefined {
  const mark = `Package: ${name}\n`;
  let at = packages.startsWith(mark) ? 0 : packages.indexOf('\n' + mark);
  if (at < 0) return undefined;
  if (at > 0) at += 1;
  const end = packages.indexOf('\n\n', at);
  return parseStanza(packages.slice(at, end < 0 ? undefined : end));
}

/** Size and checksum of a file that InRelease lists. */
export interface ReleaseFile {
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/** The InRelease entry of the file `path` (relative to the suite): [REPO] "SHA256". */
export function releaseFile(release: Stanza, path: string): ReleaseFile | undefined {
  for (const line of (release.get('sha256') ?? '').split('\n')) {
    const [sha256, size, name] = line.split(/\s+/);
    if (name === path && /^[0-9a-f]{64}$/.test(sha256 ?? '') && /^\d{1,12}$/.test(size ?? '')) {
      return { sha256: sha256!, size: Number(size) };
    }
  }
  return undefined;
}

/**
 * The signed part of a clear-signed text (RFC 9580 section 7), with dash escapes removed. Does not
 * check the signature.
 */
export function withoutSignature(text: string): string {
  const begin = text.indexOf('-----BEGIN PGP SIGNED MESSAGE-----');
  if (begin < 0) return text;
  const body = text.indexOf('\n\n', begin);
  const end = text.indexOf('\n-----BEGIN PGP SIGNATURE-----', begin);
  if (body < 0 || end < body) return '';
  return text.slice(body + 2, end + 1).replace(/^- /gm, '');
}
