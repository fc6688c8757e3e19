/** Line icons of 24 units. They say nothing that the text beside them does not say. */
import type { JSX } from 'preact';

const shapes = {
  devices:
    'M4 7c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zm0 0v10c0 1.7 3.6 3 8 3s8-1.3 8-3V7M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3',
  computers: 'M3 5h18v11H3zM9 20h6M12 16v4M7 9l2 2-2 2M12 13h4',
  flow: 'M3 5h7v5H3zM14 14h7v5h-7zM6.5 10v6.5H13M11 14.5l2 2-2 2',
  boot: 'M12 3v8M7.2 5.8a8 8 0 1 0 9.6 0',
  lend: 'M12 15V4M8 8l4-4 4 4M4 14v5h16v-5',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z',
  auto: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M12 8h6M12 12h8M12 16h6',
} as const;

export type IconName = keyof typeof shapes;

export function Icon({ name }: { readonly name: IconName }): JSX.Element {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path
        d={shapes[name]}
        fill="none"
        stroke="currentColor"
        stroke-width="1.7"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
