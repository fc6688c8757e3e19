/** The route on which browsers' tabs lend disks (docs/web.md). */
import { lendingRefused, lendingStopped, reasonOf, tokenEnded } from '../../web/lend/close-codes.js';
import type { Route } from '../../web/server/routes.js';
import type { Call } from '../serve/lends.js';
import type { ServeService } from '../serve/service.js';

export function lendRoute({ lends }: ServeService): Route {
  return {
    kind: 'stream',
    path: '/lend/:name',
    protocol: 'nbd',
    right: 'lend',
    bareToken: true,
    tellsRefusal: true,
    open: ({ name, rights: token }) => {
      return ({ stream, close, onClose }) => {
        const call: Call = { stream, token, refuse: (why) => close(lendingRefused, reasonOf(why)) };
        onClose?.((code) => {
          if (code === lendingStopped) lends.stop(name, call);
          if (code === tokenEnded) lends.stop(name, call, 'its token has expired or was revoked');
        });
        void lends.receive(name, call);
      };
    },
  };
}
