/** The frame of the page: navigation, the state of the connection, the chosen section. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useMedia } from './base/media.js';
import { Store, useStore } from './base/store.js';
import { theme, type Theme } from './base/theme.js';
import { Connection } from './connection.js';
import { Icon } from './parts/icons.js';
import { server } from './state/server.js';
import { sections, sectionsFor, type Section } from './sections.js';

function sectionOf(hash: string): Section {
  return sections.find(({ name }) => name === hash.replace(/^#\/?/, '')) ?? sections[0]!;
}

const chosen = new Store(sectionOf(location.hash));
addEventListener('hashchange', () => chosen.set(sectionOf(location.hash)));

const nextTheme: Readonly<Record<Theme, Theme>> = { system: 'light', light: 'dark', dark: 'system' };
const themeTexts = { system: 'system', light: 'light', dark: 'dark' } as const;
const themeIcons = { system: 'auto', light: 'sun', dark: 'moon' } as const;

function ThemeSwitch(): JSX.Element {
  const now = useStore(theme);
  const text = `Colours: ${themeTexts[now]}`;
  return (
    <button class="theme" title={text} onClick={() => theme.set(nextTheme[now])}>
      <Icon name={themeIcons[now]} />
      <span>{text}</span>
    </button>
  );
}

const noRights = { control: false, lend: false };

export function App(): JSX.Element {
  const wanted = useStore(chosen);
  const rights = useStore(server)?.rights;
  const shown = sectionsFor(rights ?? noRights);
  // Until the server has answered, the rights are not known.
  const section = !rights || shown.includes(wanted) ? wanted : shown[0]!;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${section.title} – Farbus`;
    // A screen reader begins at the section that was chosen, not at the navigation.
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [section]);
  const narrow = useMedia('(max-width: 760px)');
  const { Content } = section;
  return (
    <div class="frame">
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the section
      </a>
      <div class="rail">
        <div class="brand">
          <Mark /> Farbus
        </div>
        <nav aria-label="Sections">
          <ul>
            {shown.map((one) => (
              <li key={one.name}>
                <a href={`#/${one.name}`} aria-current={one === section ? 'page' : undefined}>
                  <Icon name={one.icon} />
                  {narrow ? one.short : one.title}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div class="foot">
          <ThemeSwitch />
        </div>
      </div>
      <main id="main" ref={main} tabIndex={-1}>
        <Connection>
          <Content />
        </Connection>
      </main>
    </div>
  );
}

function Mark(): JSX.Element {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true" class="mark">
      <rect width="32" height="32" rx="7" />
      <path d="M7 9h8v6H7zM17 17h8v6h-8z" fill="none" stroke-width="2" stroke-linejoin="round" />
      <path class="line" d="M11 15v5h6" fill="none" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" />
    </svg>
  );
}
