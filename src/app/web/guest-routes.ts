/**
 * The files for computers in tabs, as routes of the web server: `/guest/` with a token, because the
 * first request makes this computer boot a guest, and `/engine/` without one, because a browser
 * loads modules without headers.
 */
import { WebFailure, type Route, type TypedBytes } from '../../web/server/routes.js';
import type { PageFiles } from '../../web/server/page.node.js';
import type { GuestFolder } from './guest-files.js';

const enginePath = '/engine/';

/** The routes under `/guest/`. */
export function guestRoutes(guest: GuestFolder): Route[] {
  return [
    {
      kind: 'get',
      path: '/guest/:name',
      right: 'reads',
      answer: async ({ name }) => {
        const file = await guest.file(name);
        if (!file) throw new WebFailure(404, 'there is no such file of the guest: load the list system.json again');
        return file;
      },
    },
  ];
}

/** The files of the page and, under `/engine/`, those of the engine. */
export function withEngine(page: PageFiles, guest: GuestFolder): PageFiles {
  return {
    file: (path, encoding): Promise<TypedBytes | undefined> =>
      path.startsWith(enginePath)
        ? guest.engineFile(path.slice(enginePath.length), encoding)
        : page.file(path, encoding),
  };
}
