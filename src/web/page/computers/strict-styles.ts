/**
 * Lets xterm.js work under a strict Content-Security-Policy, which refuses the style elements and
 * style attributes that xterm.js makes. Elements made after {@link makeStylesStrict} are different
 * in two points: a style element becomes a constructed style sheet, and a style attribute is set
 * through `style`. Both are permitted, because only the page's own script can do them (Content
 * Security Policy Level 3, "style-src").
 *
 * xterm.js has an option for its document, but uses the global one in some places.
 */

const make = document.createElement.bind(document);

/** An element in place of a style element: its text goes to a style sheet of the document. */
function styleElement(): HTMLElement {
  const element = make('span');
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, 'textContent', { set: (text: string) => sheet.replaceSync(text), get: () => '' });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  element.hidden = true;
  return element;
}

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === 'style') this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

export function makeStylesStrict(): void {
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    if (name === 'style') return styleElement();
    const element = make(name, options);
    element.setAttribute = setAttribute;
    return element;
  }) as typeof document.createElement;
}
