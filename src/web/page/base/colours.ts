/** The theme's colours, for canvases and terminals, which style sheets do not reach. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
