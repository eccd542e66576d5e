package pixel
import ("testing";"os";"bufio";"fmt";"encoding/binary";"time")
func TestZZ(t *testing.T){ D:=os.Getenv("J2KD"); if D=="" {t.Skip()}
f,err:=os.Open(D+"/cases.txt"); if err!=nil {t.Fatal(err)}; sc:=bufio.NewScanner(f); ok:=0
for sc.Scan(){ var n,k string; var w,h,bits,s int; fmt.Sscan(sc.Text(),&n,&w,&h,&bits,&s,&k)
 b,err:=os.ReadFile(D+"/s/"+n+".j2k"); if err!=nil { b,err=os.ReadFile(D+"/s/"+n+".jp2")}
 out:=make([]int32,w*h); tt:=time.Now(); p,err:=decodeJPEG2000(b,h,w,out); el:=time.Since(tt)
 if err!=nil { t.Error(n,err); continue }
 e,_:=os.ReadFile(D+"/s/"+n+".i32"); diff:=0; mx:=0
 if len(e)!=4*len(out) {t.Error(n,"size");continue}
 for i,v:=range out { d:=int(v)-int(int32(binary.LittleEndian.Uint32(e[4*i:]))); if d<0 {d=-d}; if d>0 {diff++}; mx=max(mx,d)}
 if p.bits!=bits || p.signed!=(s==1) || p.lossy!=(k=="lossy") { t.Log(n,p) }
 if diff>0 { t.Error(k,n,diff,"of",len(out),"max",mx,el) } else {ok++}
}; t.Log("ok",ok) }
