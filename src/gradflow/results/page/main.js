/* The page: header, tabs, and the way from an address to what is shown. */

const views = [resultsView, runsView, factorsView, compareView, parallelView, figuresView];

function drawHeader() {
  byId("summary").textContent = boot.summary;
  byId("command").replaceChildren(
    ...(boot.command
      ? [make("span", { class: "soft" }, "Again, or to go on:"), commandLine(boot.command, "the command of the sweep")]
      : []),
  );
  const list = make(
    "details",
    {},
    make(
      "summary",
      {},
      boot.problems.length === 1 ? "1 record could not be read" : `${boot.problems.length} records could not be read`,
    ),
    make(
      "ul",
      {},
      boot.problems.map((problem) => make("li", {}, make("code", {}, problem))),
    ),
  );
  byId("problems").replaceChildren(...(boot.problems.length > 0 ? [list] : []));
}

function drawTabs() {
  for (const { name, label } of views) {
    const tab = make(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-controls": `panel-${name}`,
        onclick: () => goToTab(name),
      },
      label,
    );
    byId("tabs").append(tab);
    byId("main").append(
      make("section", {
        role: "tabpanel",
        id: `panel-${name}`,
        "aria-labelledby": `tab-${name}`,
        tabindex: "-1",
        hidden: true,
      }),
    );
  }
  byId("tabs").addEventListener("keydown", (event) => {
    const at = views.findIndex(({ name }) => event.target.id === `tab-${name}`);
    const to = {
      ArrowRight: (at + 1) % views.length,
      ArrowLeft: (at + views.length - 1) % views.length,
      Home: 0,
      End: views.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    goToTab(views[to].name);
    byId(`tab-${views[to].name}`).focus();
  });
}

async function showPlace() {
  const place = here();
  const view = views.find(({ name }) => name === place.tab) ?? views[0];
  for (const { name } of views) {
    const shownNow = name === view.name;
    byId(`panel-${name}`).hidden = !shownNow;
    byId(`tab-${name}`).setAttribute("aria-selected", String(shownNow));
    byId(`tab-${name}`).tabIndex = shownNow ? 0 : -1;
  }
  await Promise.all([
    guarded(byId(`panel-${view.name}`), () => view.show(byId(`panel-${view.name}`), place)),
    guarded(byId("run"), () => runView.show(place)),
  ]);
}

/** What goes wrong is said where it was to be seen, until the latest work there went well. */
async function guarded(element, work) {
  const turn = (element.turn = (element.turn ?? 0) + 1);
  const forgive = () => element.querySelector(":scope > [data-key=wrong]")?.remove();
  try {
    await work();
    if (element.turn === turn) forgive();
  } catch (error) {
    forgive();
    const why = `This could not be shown: ${error.message}`;
    element.prepend(make("p", { role: "alert", class: "alert", "data-key": "wrong" }, why));
    console.error(error);
  }
}

function followTheme() {
  const select = byId("theme");
  select.value = document.documentElement.dataset.theme;
  select.addEventListener("change", () => {
    document.documentElement.dataset.theme = select.value;
    try {
      localStorage.setItem("gradflow-theme", select.value);
    } catch {
      // not kept, then: a browser may keep nothing for pages from disk
    }
    redrawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
}

function followKeys() {
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // '#main' is no place
    byId("main").focus();
  });
  byId("run").addEventListener("cancel", (event) => {
    event.preventDefault();
    go({ run: null, against: null });
  });
  byId("run").addEventListener("keydown", followArrows);
  byId("run").addEventListener("click", (event) => event.target === byId("run") && go({ run: null, against: null })); // beside it
}

/** ← and → in a run's dialog go to the runs before and after it, but where they move a cursor or scroll sideways. */
function followArrows(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.matches("input, select, textarea")) return;
  const region = event.target.closest(".scroll, pre");
  if (region && region.scrollWidth > region.clientWidth) return;
  const ids = byIdsInOrder();
  const next = ids[ids.indexOf(here().run) + by];
  if (next === undefined || !ids.includes(here().run)) return;
  event.preventDefault();
  go({ run: next, against: null }, true);
}

arrived = showPlace;
addEventListener("popstate", showPlace);
drawHeader();
drawTabs();
followTheme();
followKeys();
watch(async () => {
  drawHeader();
  await showPlace();
});
await showPlace();
document.documentElement.dataset.ready = "yes"; // what tests and measurements wait for
