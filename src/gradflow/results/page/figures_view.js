/* The paper's figures, as files in the page. */

const figuresView = {
  name: "figures",
  label: "Figures",

  async show(panel) {
    if (this.drawn === boot.pictures) return;
    this.drawn = boot.pictures;
    empty(panel);
    if (boot.pictures.length === 0)
      panel.append(make("p", { class: "soft" }, "No figures yet: gradflow plot draws them."));
    panel.append(...boot.pictures.map(picture));
  },
};

function picture({ title, alt, png, svg }) {
  const address = `data:image/png;base64,${png}`;
  const link = make(
    "a",
    { class: "button small", href: address, download: `${slug(boot.title)}-${slug(title)}.png` },
    "PNG",
  );
  const caption = make(
    "figcaption",
    {},
    make("span", { class: "figure-title" }, title),
    make("span", { class: "buttons" }, link),
  );
  const beside = svg && make("p", { class: "soft note" }, "As SVG: ", make("code", {}, svg), ", beside this page.");
  return make("figure", { class: "picture" }, caption, beside, make("img", { src: address, alt, loading: "lazy" }));
}
