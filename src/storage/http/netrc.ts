/**
 * Reads a netrc file: user names and passwords by host, as ftp(1) and curl read it (netrc(5)).
 *
 * Left out: macros (`macdef`), which are skipped.
 */

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** The login for a host: of its own entry, else of `default`; undefined if there is none. */
export function loginFor(text: string, host: string): Login | undefined {
  const withoutMacros = text.replace(/^\s*macdef\s[^]*?(?:\n\s*\n|$)/gm, '');
  const words = withoutMacros.replace(/(^|\s)#.*$/gm, '').match(/"(?:\\.|[^"\\])*"|\S+/g) ?? [];
  let matches = false;
  let user: string | undefined;
  let password: string | undefined;
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word === 'machine' || word === 'default') {
      if (matches && password !== undefined) break;
      matches = word === 'default' || plain(words[++at]) === host;
      user = password = undefined;
    } else if (matches && word === 'login') user = plain(words[++at]);
    else if (matches && word === 'password') password = plain(words[++at]);
  }
  return matches && password !== undefined ? { user: user ?? '', password } : undefined;
}

/** A word without its quotation marks. */
function plain(word = ''): string {
  return word.startsWith('"') ? word.slice(1, -1).replace(/\\(.)/g, '$1') : word;
}
