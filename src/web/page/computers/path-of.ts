/** The address of a request to a computer beside the server. */
export function pathOf(name: string, act: string): string {
  return `api/computers/${encodeURIComponent(name)}/${act}`;
}
