import sys, time, traceback
from functools import partial
from tests.faults.stack import Stack, QUICK, FULL
from tests.faults.ordeal import undergo
from tests.faults import catalogue as c
t=time.time()
with Stack(QUICK) as stack:
    print("up", time.time()-t, flush=True)
    for word in sys.argv[1:]:
        name,*kw = word.split(":")
        kwargs={}
        for k in kw:
            a,b=k.split("="); 
            try: b=float(b)
            except ValueError: pass
            kwargs[a]=b
        t=time.time()
        try:
            r=undergo(stack,name,partial(getattr(c,name),**kwargs))
            print("OK",name,f"recovery={r.recovery_s:.1f}s took={time.time()-t:.1f} twice={r.figures.twice}/{r.duplicates_max}", r.figures.statuses, "slowest",round(r.slowest_post_s,2), r.refusals, r.restarted, r.notes, "singles", r.singles, flush=True)
        except BaseException as e:
            print("FAIL",name, f"{time.time()-t:.1f}", repr(e)[:600], flush=True)
            if not isinstance(e, AssertionError): traceback.print_exc()
            import shutil; shutil.rmtree("/tmp/faultlogs", ignore_errors=True); shutil.copytree(stack.supervisor.logs,"/tmp/faultlogs")
            if isinstance(e, KeyboardInterrupt): break
    import shutil; shutil.rmtree("/tmp/faultlogs_last", ignore_errors=True); shutil.copytree(stack.supervisor.logs,"/tmp/faultlogs_last")
