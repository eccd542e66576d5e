// ohif.cjs BASE STUDY DIR: opens a study in the OHIF viewer at BASE as a radiologist does, opens each report and each
// segmentation by a double click on its entry in the series panel, takes pictures into DIR and says what is there. Exit code
// 1 where the viewer shows an error, or nothing, or counts other voxels than the report. Started by ohif beside it.
const puppeteer = require('puppeteer-core');

const [base, study, dir] = process.argv.slice(2);
const faults = [];
const fault = text => { faults.push(text); console.log(`  FAULT ${text}`); };
const sleep = ms => new Promise(done => setTimeout(done, ms));
const meaning = item => item['0040A043']?.Value?.[0]?.['00080104']?.Value?.[0];
const code = item => item['0040A043']?.Value?.[0]?.['00080100']?.Value?.[0];
const children = item => item['0040A730']?.Value ?? [];

// Console errors and failed requests, each once; `during` names what was being done.
let during = '';
const heard = new Set();
function hear(text) {
  text = `${during}: ${text.replaceAll(/[0-9a-f]{8}-[-0-9a-f]{27}|[0-9.]{20,}/g, '…').slice(0, 300)}`;
  if (heard.size < 50) heard.add(text.replace(/frames\/\d+/, 'frames/…'));
}

// load opens the study and waits until the panel lists its series and the first image is drawn.
async function load(browser) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1600, height: 1000 });
  page.on('console', async m => {
    if (m.type() !== 'error') return;
    const parts = await Promise.all(m.args().map(a => a.evaluate(v => v?.stack ?? String(v)).catch(() => '')));
    hear(`console: ${(parts.join(' ') || m.text()).split('\n').slice(0, 2).join(' ')}`);
  });
  page.on('pageerror', e => hear(`exception: ${e.message}`));
  page.on('response', r => { if (r.status() >= 400) hear(`HTTP ${r.status()} ${new URL(r.url()).pathname.split('/').slice(-3).join('/')}`); });
  await page.goto(`${base}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: 'domcontentloaded' });
  await page.waitForSelector('[data-cy^="study-browser-thumbnail"]', { timeout: 120e3 });
  await page.waitForFunction(() => window.services?.displaySetService?.activeDisplaySets.length &&
    /\(\d+\/\d+\)|^\d+\/\d+$/m.test(document.querySelector('[data-cy="viewport-grid"]')?.innerText ?? ''), { timeout: 60e3 }).catch(() => {});
  await sleep(2000);
  return page;
}

const series = page => page.evaluate(() => window.services.displaySetService.activeDisplaySets.map(s => ({
  id: s.displaySetInstanceUID, uid: s.SeriesInstanceUID, modality: s.Modality, number: s.SeriesNumber, description: s.SeriesDescription,
  shown: document.getElementById(`thumbnail-${s.displaySetInstanceUID}`)?.innerText.replaceAll('\n', ' | '),
})));

async function doubleClick(page, uid) {
  const s = (await series(page)).find(s => s.uid === uid);
  const entry = await page.$(`[id="thumbnail-${s.id}"]`);
  await entry.evaluate(e => e.scrollIntoView({ block: 'center' }));
  const box = await entry.boundingBox();
  await page.mouse.click(box.x + 30, box.y + box.height / 2, { count: 2, delay: 30 });
}

// looks gives the text of the viewports, and faults where OHIF shows an error or has lost its page.
async function looks(page) {
  const [all, text] = await page.evaluate(() => [document.body.innerText, document.querySelector('[data-cy="viewport-grid"]')?.innerText]);
  if (text === undefined) fault(`${during}: the page is empty`);
  else if (/Something went wrong/i.test(all)) fault(`${during}: "Something went wrong"`);
  return text ?? '';
}

// report opens a Structured Report and looks for each region and each measurement of it in the text.
async function report(browser, s, name) {
  const [object] = await (await fetch(`${base}/dicom-web/studies/${study}/series/${s.uid}/metadata`)).json();
  const groups = children(object).filter(i => code(i) === '126010').flatMap(children).filter(i => code(i) === '125007').map(g => ({
    region: children(g).find(i => code(i) === '112039')['0040A160'].Value[0],
    values: Object.fromEntries(children(g).filter(i => i['0040A040'].Value[0] === 'NUM').map(i => {
      const v = i['0040A300'].Value[0];
      return [code(i), v['0040A161']?.Value[0] ?? Number(v['0040A30A'].Value[0])];
    })),
    names: children(g).filter(i => i['0040A040'].Value[0] === 'NUM').map(meaning),
  }));
  const page = await load(browser);
  await doubleClick(page, s.uid);
  await sleep(4000);
  const text = await looks(page);
  await page.screenshot({ path: `${dir}/${name}.png` });
  const wanted = groups.flatMap(g => [g.region, ...g.names]);
  const lacking = wanted.filter(w => !text.includes(w));
  console.log(`  ${name}.png  ${meaning(object)}: ${wanted.length - lacking.length} of ${wanted.length} names are in its ${text.length} characters of text`);
  console.log(text.split('\n').filter(Boolean).slice(0, 12).map(l => `    | ${l.slice(0, 140)}`).join('\n'));
  if (!text) fault(`${during}: nothing is shown`);
  else if (lacking.length) fault(`${during}: not shown: ${[...new Set(lacking)].slice(0, 5).join(', ')}`);
  await page.close();
  return groups;
}

// segmentation opens a Segmentation on its images, goes to the middle of each segment, and gives OHIF's statistics.
async function segmentation(browser, s, name) {
  const page = await load(browser);
  await doubleClick(page, s.uid);
  const yes = await page.waitForSelector('[data-cy="yes-hydrate-btn"]', { timeout: 60e3 }).catch(() => null);
  if (!yes) { fault(`${during}: OHIF does not offer to open it`); await looks(page); }
  await yes?.click();
  await page.waitForFunction(() => window.services.segmentationService.getSegmentations().length, { timeout: 30e3 }).catch(() => {});
  await page.click('[data-cy="panelSegmentation-btn"]').catch(() => {});
  await page.waitForFunction(() => window.services.segmentationService.getSegmentations().every(x =>
    Object.values(x.segments).every(g => g.cachedStats?.namedStats?.count)), { timeout: 60e3 }).catch(() => hear('OHIF computed no statistics within a minute'));
  const found = await page.evaluate(() => window.services.segmentationService.getSegmentations().flatMap(x => Object.values(x.segments).map(g => ({
    id: x.segmentationId, index: g.segmentIndex, label: g.label, centre: g.cachedStats?.center?.image,
    ...Object.fromEntries(Object.values(g.cachedStats?.namedStats ?? {}).map(v => [v.name, v.value])),
  }))));
  if (!found.length) fault(`${during}: no segment`);
  for (const g of found) {
    await page.evaluate(g => window.services.segmentationService.jumpToSegmentCenter(g.id, g.index), g);
    await sleep(2500);
    await looks(page);
    await page.screenshot({ path: `${dir}/${name}-${g.index}.png` });
    console.log(`  ${name}-${g.index}.png  ${g.label}: ${g.count} voxels, ${g.volume} mm3, mean ${g.mean}, middle at voxel ${g.centre}`);
  }
  if (found.length) {
    await page.evaluate(id => { // all segments off: what is left is the image
      const { segmentationService: s, viewportGridService: v } = window.services;
      s.toggleSegmentationRepresentationVisibility(v.getActiveViewportId(), { segmentationId: id, type: 'Labelmap' });
    }, found[0].id);
    await sleep(1500);
    await page.screenshot({ path: `${dir}/${name}-off.png` });
  }
  await page.close();
  return found;
}

// compare holds OHIF's statistics of the voxels under a segment against the report's values of the region with its name.
function compare(segment, groups) {
  const values = Object.assign({}, ...groups.filter(g => g.region === segment.label).map(g => g.values));
  for (const [what, ours, theirs] of [
    ['volume', values.YEKZ, segment.volume], ['mean', values.Q4LE, segment.mean], ['minimum', values['1GSF'], segment.min], ['maximum', values['84IY'], segment.max],
  ]) {
    if (ours === undefined || theirs === undefined) { console.log(`  ${segment.label}: ${what}: report ${ours}, OHIF ${theirs}`); continue; }
    const off = Math.abs(ours - theirs) / Math.max(Math.abs(ours), 1);
    if (off > 1e-4) fault(`${segment.label}: ${what} is ${ours} in the report, ${theirs} under the segmentation in OHIF`);
    else console.log(`  ${segment.label}: ${what} ${ours} in the report, ${theirs} in OHIF`);
  }
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium', protocolTimeout: 180e3,
    args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
  });
  try {
    during = 'opening the study';
    const page = await load(browser);
    await looks(page);
    await page.screenshot({ path: `${dir}/study.png` });
    const all = await series(page);
    await page.close();
    console.log(`study.png  the series panel lists:`);
    for (const s of all) console.log(`  ${s.modality} ${s.number ?? ''} "${s.description ?? ''}"  shown as: ${s.shown}`);
    const groups = [];
    const of = modality => all.filter(s => s.modality === modality);
    if (!of('SR').length) fault('no report in the panel');
    for (const [i, s] of of('SR').entries()) {
      console.log(during = `SR ${i + 1} "${s.description}"`);
      groups.push(...await report(browser, s, `sr-${i + 1}`));
    }
    for (const [i, s] of of('SEG').entries()) {
      console.log(during = `SEG ${i + 1} "${s.description}"`);
      for (const g of await segmentation(browser, s, `seg-${i + 1}`)) compare(g, groups);
    }
    for (const [i, s] of all.filter(s => ['DOC', 'OT'].includes(s.modality)).entries()) {
      console.log(during = `${s.modality} "${s.description}"`);
      const page = await load(browser);
      await doubleClick(page, s.uid);
      await sleep(5000);
      await looks(page);
      await page.screenshot({ path: `${dir}/document-${i + 1}.png` });
      await page.close();
    }
  } finally {
    await browser.close();
  }
  if (heard.size) console.log(`Errors in the browser:\n${[...heard].map(h => `  ${h}`).join('\n')}`);
  console.log(faults.length ? `${faults.length} faults.` : 'No faults.');
  process.exit(faults.length ? 1 : 0);
})().catch(e => { console.error(e); process.exit(1); });
