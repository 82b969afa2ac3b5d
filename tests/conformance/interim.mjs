// Interim answers by Node's own HTTP: what its client sees of what its server sends, as JSON.
//
//   node interim.mjs serve            prints its port
//   node interim.mjs ask PORT
//
// The cases are named as those of http-tests/cache-tests.
import http from 'node:http'

const LINK = '</styles.css>; rel=preload; as=style'
const HINTS = { link: LINK, 'x-my-header': 'test' }
const CASES = {
  'interim-102': response => response.writeProcessing(),
  'interim-103': response => response.writeEarlyHints(HINTS),
  'interim-not-cached': response => response.writeEarlyHints({ link: LINK }),
  'interim-no-header-reuse': response => response.writeEarlyHints(HINTS)
}

function serve () {
  const server = http.createServer((request, response) => {
    const [name, turn] = request.url.slice(1).split('/')
    if (turn === '1') CASES[name](response)
    response.setHeader('Cache-Control', 'max-age=100000')
    response.setHeader('Turn', turn)
    response.end(name)
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
}

function ask (port, agent, path) {
  return new Promise((resolve, reject) => {
    const interims = []
    const request = http.request({ host: '127.0.0.1', port, path, agent }, response => {
      let body = ''
      response.on('data', data => { body += data })
      response.on('end', () => resolve({
        interims,
        status: response.statusCode,
        reused: 'x-my-header' in response.headers || 'link' in response.headers,
        turn: response.headers.turn,
        body
      }))
    })
    request.on('information', ({ statusCode, headers }) => interims.push([statusCode, headers]))
    request.on('error', reject)
    request.end()
  })
}

if (process.argv[2] === 'serve') {
  serve()
} else {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const seen = {}
  for (const name of Object.keys(CASES)) {
    seen[name] = [await ask(process.argv[3], agent, `/${name}/1`), await ask(process.argv[3], agent, `/${name}/2`)]
  }
  agent.destroy()
  console.log(JSON.stringify(seen))
}
