// What a term means, shown to whoever points at it or reaches it by keyboard; Escape closes it.
document.addEventListener('DOMContentLoaded', () => {
  let shown = null, of = null;
  const close = () => { if (shown) shown.hidden = true; shown = null; };
  const open = term => {
    close();
    of = term;
    shown = document.getElementById(term.getAttribute('aria-describedby'));
    shown.hidden = false;
    place();
  };
  const place = () => {
    const at = of.getBoundingClientRect(), room = document.documentElement.clientWidth - shown.offsetWidth - 8;
    shown.style.left = `${Math.max(8, Math.min(at.left, room))}px`;
    const below = at.bottom + shown.offsetHeight + 4 < innerHeight;
    shown.style.top = `${below ? at.bottom + 2 : at.top - shown.offsetHeight - 2}px`;
  };
  for (const term of document.querySelectorAll('a.term')) {
    const meaning = document.getElementById(term.getAttribute('aria-describedby'));
    term.addEventListener('focus', () => open(term));
    term.addEventListener('blur', close);
    term.addEventListener('pointerenter', event => { if (event.pointerType !== 'touch') open(term); });
    for (const one of [term, meaning])
      one.addEventListener('pointerleave', event => { if (![term, meaning].includes(event.relatedTarget)) close(); });
  }
  document.addEventListener('keydown', event => { if (event.key === 'Escape') close(); });
  const moved = () => { if (shown) document.activeElement === of ? place() : close(); };
  document.addEventListener('scroll', moved, {passive: true});
});
