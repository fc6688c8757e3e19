/**
 * Hints for a word at the end of a source's text that looks like a filter but is none, and so was
 * taken for part of the path.
 */
import { FarbusError, usageError } from '../base/errors.js';
import { similar } from '../base/similar.js';
import { filterOptions } from './filters.js';

/** Words of a source's text that are not filters; true if the word takes no value. */
const others: Readonly<Record<string, boolean>> = {
  bus: false,
  serial: false,
  model: false,
  cdrom: true,
  removable: true,
};

/** A hint about the last word of a source's text, if it looks like a filter; else undefined. */
export function sourceHint(text: string): string | undefined {
  const match = /,([a-z-]+)(=[^,]*)?$/.exec(text);
  if (!match) return undefined;
  const word = match[1]!;
  const flags = Object.entries(filterOptions).map(([name, { value }]) => [name, value === undefined] as const);
  const known: Readonly<Record<string, boolean>> = { ...Object.fromEntries(flags), ...others };
  if (Object.hasOwn(known, word)) {
    return known[word] ? `,${word} takes no value` : `,${word} needs a value: ,${word}=VALUE`;
  }
  const near = similar(word, Object.keys(known));
  if (near !== undefined) return `there is no filter ${word}: did you mean ${near}?`;
  return match[2] === undefined ? undefined : `there is no filter ${word}`;
}

/** A hint about a path that looks like the address of a server; else undefined. */
function addressHint(text: string): string | undefined {
  const scheme = /^(nbds?|ssh|rsh|https?|s3)(?::\/?|\/\/?)(?!\/)/.exec(text);
  if (scheme) return `for a server write ${scheme[1]!}://${text.slice(scheme[0].length)}`;
  if (/^(?:[\w-]+(?:\.[\w-]+)+|localhost):\d+(?:\/|$)/.test(text)) return `for a server write nbd://${text}`;
  return undefined;
}

/** Adds the hint, if there is one, to an error of opening `text`. */
export function withSourceHint(text: string, error: unknown): unknown {
  const hint = error instanceof FarbusError ? (sourceHint(text) ?? addressHint(text)) : undefined;
  return hint === undefined ? error : usageError(`${(error as FarbusError).message}; ${hint}`);
}
