/** Settings that the browser keeps between visits. Without storage, they last for the visit. */
const visit = new Map<string, string>();

export function kept(key: string): string | undefined {
  try {
    return localStorage.getItem(key) ?? undefined;
  } catch {
    return visit.get(key);
  }
}

/** Keeps a setting; undefined removes it. */
export function keep(key: string, value: string | undefined): void {
  try {
    if (value === undefined) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    if (value === undefined) visit.delete(key);
    else visit.set(key, value);
  }
}
