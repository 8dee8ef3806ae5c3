// HTML that changes in place: focus, selection, scrolling, typed text and open parts stay as they are.
// Buttons and forms with `data-action` are told to the server; `data-dialog` opens a dialog, `data-close` closes it.
const STAYS = new Set(["open", "value", "checked"]);

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;
}

function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !STAYS.has(name)) from.removeAttribute(name);
  for (const { name, value } of [...to.attributes])
    if (!STAYS.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  children(from, to);
}

function children(from, to) {
  const now = [...from.childNodes];
  const then = [...to.childNodes];
  then.forEach((node, place) => {
    if (place >= now.length) from.append(node);
    else if (same(now[place], node)) morph(now[place], node);
    else now[place].replaceWith(node);
  });
  now.slice(then.length).forEach((node) => node.remove());
}

export default {
  template: `<div></div>`,
  props: { html: String },
  mounted() {
    this.$el.innerHTML = this.html;
    this.$el.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action], [data-dialog], [data-close]");
      if (!button || button.tagName === "FORM") return;
      if (button.dataset.dialog) document.getElementById(button.dataset.dialog)?.showModal();
      if ("close" in button.dataset) button.closest("dialog")?.close();
      if (button.dataset.action) this.$emit("action", { action: button.dataset.action, ...button.dataset });
    });
    this.$el.addEventListener("submit", (event) => {
      const form = event.target;
      if (!form.dataset.action) return;
      event.preventDefault();
      const values = Object.fromEntries(new FormData(form, event.submitter));
      this.$emit("action", { ...form.dataset, ...values, action: form.dataset.action });
      form.closest("dialog")?.close();
      if (!("keep" in form.dataset)) form.reset();
    });
  },
  watch: {
    html(now) {
      const made = document.createElement("div");
      made.innerHTML = now;
      children(this.$el, made);
    },
  },
};
