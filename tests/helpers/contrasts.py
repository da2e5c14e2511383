"""Whether a page's text stands out: a script for a browser."""

# Every text's contrast with what lies under it, as WCAG 2.1 computes it.
CONTRASTS = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = parse(color).map((v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const under = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (parse(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!hasText || !node.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(under(node))].sort((x, y) => y - x);
  found.push([node.className || node.tagName, node.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)]);
}
return found;
"""
