'use strict';
(() => {
  const data = JSON.parse(document.getElementById('chart-data').textContent);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const FAMILY = {float: '--float', whole: '--float', int8: '--int8', 'int8-dynamic': '--dynamic'};
  const SPARE = ['--spare-1', '--spare-2', '--spare-3', '--spare-4'];
  const MARKS = ['circle', 'rect', 'triangle', 'rectRot', 'star', 'crossRot'];
  const LONGEST_WHISKER = 1.6;  // times the longest bar: a disturbed run must not shrink the bars
  const ROW = 44, AXIS = 48;    // pixels
  const SITE_WIDTH = 3, WIDEST = 8000;

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = text => text.length > 72 ? `${text.slice(0, 35)} … ${text.slice(-35)}` : text;
  const axis = (title, more = {}) => ({
    title: {display: Boolean(title), text: title, color: colour('--soft')},
    grid: {color: colour('--line')}, border: {color: colour('--line')},
    ...more, ticks: {color: colour('--soft'), ...more.ticks},
  });
  const tooltip = callbacks => ({
    callbacks, backgroundColor: colour('--tip'), titleColor: colour('--tip-ink'), bodyColor: colour('--tip-ink'),
    displayColors: false, padding: 10,
  });

  function barConfig({axis: title, kind, bars}) {
    const longest = Math.max(...bars.map(bar => bar.value ?? 0));
    const limit = LONGEST_WHISKER * longest;
    const reach = Math.max(longest, ...bars.map(bar => bar.whisker ?? 0));
    const fills = kind === 'pair' ? bars.map(bar => colour(`--${bar.label}`)) : colour('--dynamic');
    const datasets = [{
      data: bars.map(bar => bar.value), backgroundColor: fills, borderRadius: 3, grouped: false,
      maxBarThickness: 22, order: 2,
    }];
    if (bars.some(bar => bar.whisker !== null)) {
      datasets.push({
        data: bars.map(bar => bar.whisker === null || bar.value === null ? null : [bar.value, bar.whisker]),
        backgroundColor: colour('--ink'), grouped: false, barThickness: 3, minBarLength: 2, order: 1,
      });
    }
    return {
      type: 'bar',
      data: {labels: bars.map(bar => [bar.label, bar.text]), datasets},
      options: {
        indexAxis: 'y', animation: false, maintainAspectRatio: false,
        interaction: {mode: 'index', axis: 'y', intersect: false},
        scales: {
          x: axis(title, {beginAtZero: true, max: limit > 0 && reach > limit ? limit : undefined, ticks: {includeBounds: false}}),
          y: axis('', {grid: {display: false}, ticks: {color: colour('--ink'), autoSkip: false},
            afterFit: scale => { scale.width = 128; }}),
        },
        plugins: {
          legend: {display: false},
          tooltip: {
            ...tooltip({
              title: items => bars[items[0].dataIndex].label,
              label: item => [bars[item.dataIndex].text, ...bars[item.dataIndex].details],
            }),
            filter: item => item.datasetIndex === 0,
          },
        },
      },
    };
  }

  function lossConfig(losses) {
    const drawn = losses.filter(point => point.loss !== null);
    const least = Math.min(...drawn.map(point => point.loss).filter(loss => loss > 0));
    const most = Math.max(...drawn.map(point => point.loss));
    const zeros = drawn.some(point => point.loss <= 0);
    const floor = 10 ** (Math.floor(Math.log10(least)) - (zeros ? 1 : 0));  // a logarithmic axis has no zero
    const decade = value => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6;
    const choices = [...new Set(drawn.map(point => point.choice))];
    const spare = choices.filter(choice => !(choice in FAMILY));
    const radius = losses.length > 150 ? 3 : 5;
    const datasets = choices.map((choice, k) => {
      const shade = colour(FAMILY[choice] ?? SPARE[spare.indexOf(choice) % SPARE.length]);
      const points = drawn.filter(point => point.choice === choice);
      return {
        label: choice, data: points.map(point => ({x: point.order, y: Math.max(point.loss, floor), point})),
        backgroundColor: shade, borderColor: shade, pointStyle: MARKS[k % MARKS.length],
        radius, hoverRadius: radius + 3, clip: false,
      };
    });
    return {
      type: 'scatter', data: {datasets},
      options: {
        animation: false, maintainAspectRatio: false, interaction: {mode: 'nearest', intersect: false},
        scales: {
          x: axis('layer, in order of execution', {min: 0, max: Math.max(...losses.map(point => point.order)) + 1,
            ticks: {precision: 0, includeBounds: false}}),
          y: axis('predicted loss', {type: 'logarithmic', min: floor, max: 10 ** Math.ceil(Math.log10(most * 1.01)),
            ticks: {callback: value => !decade(value) ? null : zeros && value < 2 * floor ? '0' : value.toExponential(0)}}),
        },
        plugins: {
          legend: {labels: {usePointStyle: true, boxWidth: 8, boxHeight: 8, color: colour('--ink')}},
          tooltip: tooltip({
            title: items => short(items[0].raw.point.site),
            label: ({raw: {point}}) => [`${point.op}: ${point.choice}`, `predicted loss ${point.loss.toPrecision(3)}`],
          }),
        },
      },
    };
  }

  function frontConfig(points) {
    const drawn = points.filter(point => point.ms !== null && point.drop !== null);
    const largest = Math.max(...drawn.map(point => point.bytes));
    const radius = point => Math.max(3, 15 * Math.sqrt(point.bytes / (largest || 1)));
    const datasets = [[true, 'on the front', '--compiled'], [false, 'beaten', '--original']].map(([front, label, shade]) => {
      const chosen = drawn.filter(point => point.front === front);
      return {
        label, data: chosen.map(point => ({x: point.ms, y: point.drop, point})),
        backgroundColor: `${colour(shade)}b0`, borderColor: colour(shade), clip: false,
        radius: chosen.map(radius), hoverRadius: chosen.map(point => radius(point) + 2),
      };
    }).filter(set => set.data.length);
    const changed = choices => Object.entries(choices).map(([choice, sites]) => `${sites} ${choice}`).join(', ');
    return {
      type: 'scatter', data: {datasets},
      options: {
        animation: false, maintainAspectRatio: false, interaction: {mode: 'nearest', intersect: false},
        layout: {padding: 16},
        scales: {x: axis('ms of one run'), y: axis('drop of the metric')},
        plugins: {
          legend: {labels: {usePointStyle: true, boxWidth: 8, boxHeight: 8, color: colour('--ink')}},
          tooltip: tooltip({
            title: items => short(items[0].raw.point.artifact || items[0].raw.point.name || 'beaten'),
            label: ({raw: {point}}) => [
              changed(point.choices) || 'all in float',
              `${point.ms.toPrecision(3)} ms, ${(point.bytes / 1e6).toPrecision(3)} MB, drop ${point.drop.toFixed(4)}`,
            ],
          }),
        },
      },
    };
  }

  function draw() {
    for (const canvas of document.querySelectorAll('canvas[data-chart]')) {
      const name = canvas.dataset.chart, holder = canvas.parentNode;
      const bars = data.charts[name];
      Chart.getChart(canvas)?.destroy();
      holder.hidden = false;
      holder.style.height = bars ? `${bars.bars.length * ROW + AXIS}px` : '320px';
      if (name === 'losses') holder.style.minWidth = `${Math.min(WIDEST, SITE_WIDTH * data.losses.length)}px`;
      new Chart(canvas, bars ? barConfig(bars) : name === 'losses' ? lossConfig(data.losses) : frontConfig(data.pareto));
    }
  }

  function sortable(table) {
    const body = table.tBodies[0];
    for (const head of table.querySelectorAll('th[data-sort]')) {
      head.addEventListener('click', () => {
        const down = head.getAttribute('aria-sort') === 'ascending';
        for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const key = row => row.children[head.cellIndex].dataset.value ?? row.children[head.cellIndex].textContent;
        const compare = (a, b) => head.classList.contains('n') ? key(a) - key(b) : key(a).localeCompare(key(b));
        body.append(...[...body.rows].sort((a, b) => down ? compare(b, a) : compare(a, b)));
      });
    }
  }

  function filterable(table, input) {
    input.hidden = false;
    input.addEventListener('input', () => {
      const wanted = input.value.toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }

  const layers = document.getElementById('layers');
  if (layers) {
    sortable(layers);
    filterable(layers, document.getElementById('filter'));
  }
  draw();
  dark.addEventListener('change', draw);
  for (const numbers of document.querySelectorAll('details.numbers')) numbers.open = false;
})();
