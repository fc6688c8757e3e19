/**
 * The token that this page shows to its server. It comes in the fragment of the address, which a
 * browser sends to no server, and is then taken out of the address bar. The tab keeps it.
 */
const key = 'farbus-token';
const inFragment = /^#token=([\w.~-]+)/;

/** A token in an address or fragment that a person gives, or the text itself if it may be one. */
export function tokenIn(text: string): string | undefined {
  const trimmed = text.trim();
  const fragment = trimmed.indexOf('#');
  if (fragment >= 0) return inFragment.exec(trimmed.slice(fragment))?.[1];
  return /^[\w.~-]{8,}$/.test(trimmed) ? trimmed : undefined;
}

let token = readKept();

function readKept(): string | undefined {
  try {
    return sessionStorage.getItem(key) ?? undefined;
  } catch {
    return undefined;
  }
}

export function currentToken(): string | undefined {
  return token;
}

export function setToken(value: string): void {
  token = value;
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // Without storage, the token lasts until the page is loaded again.
  }
}

/** Takes a token out of the address bar. Returns true if there was one. */
export function takeFromAddress(): boolean {
  const [, found] = inFragment.exec(location.hash) ?? [];
  if (found === undefined) return false;
  history.replaceState(undefined, '', location.pathname);
  setToken(found);
  return true;
}
